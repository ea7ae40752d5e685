"""The scale-out engine: procrastinate on PostgreSQL. Tasks carry a job's id, our rows everything else.

Delivery may fail in any way without harm: a task that comes twice finds nothing to claim, one that never
comes is deferred again by `maintain`, and a worker that dies leaves a lease that the reaper ends.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, cast

import procrastinate
import psycopg
from procrastinate.exceptions import ProcrastinateException
from sqlalchemy import Connection, text

from service.errors import ServiceError, Unavailable
from service.jobs import leases
from service.jobs.worker import Worker
from service.settings import Settings
from service.store import workers
from service.store.db import Database

log = logging.getLogger("bnfold.engine")
TASK = "bnfold.run"
_SCHEMA_LOCK = 0x626E6670  # "bnfp"
_ORPHANS = text(
    "SELECT j.id, j.pool FROM jobs j WHERE j.state = 'queued' "
    "AND j.not_before < extract(epoch FROM now()) - 5 "
    "AND NOT EXISTS (SELECT 1 FROM procrastinate_jobs p WHERE p.status IN ('todo', 'doing') "
    "AND p.task_name = :task AND p.args ->> 'job_id' = j.id) ORDER BY j.created_at LIMIT 500"
)
_WAITING = text(
    "SELECT pool, count(*) AS number FROM jobs WHERE state = 'queued' "
    "AND not_before < extract(epoch FROM now()) - 5 GROUP BY pool"
)
_TICKETS = text(
    "SELECT queue_name AS pool, count(*) AS number FROM procrastinate_jobs "
    "WHERE status = 'todo' AND task_name = :task GROUP BY queue_name"
)


class ProcrastinateQueue:
    """The API's side. Workers are processes of their own (`bnfold worker`), on any host."""

    def __init__(self, settings: Settings, db: Database) -> None:
        self._settings, self._db = settings, db
        self._app = procrastinate.App(connector=procrastinate.SyncPsycopgConnector(conninfo=db.dsn))
        self._task = _register(self._app, lambda job_id: None)
        _ensure_schema(db)

    def enqueue(self, connection: Connection, job_id: str, pool: str, delay: float = 0.0) -> None:
        """Defer the task on the transaction's own connection: the row and the task, or neither."""
        raw = connection.connection.driver_connection
        later = {"schedule_in": {"seconds": delay}} if delay > 0 else {}
        try:
            self._task.configure(queue=pool, connection=raw, **later).defer(job_id=job_id)
        except ProcrastinateException as error:
            raise Unavailable("The queue does not take the job.", hint="Try again in a moment.") from error

    def start(self) -> None:
        """Nothing to keep alive from here."""

    def stop(self) -> None:
        """Nothing to end."""

    def health(self) -> dict[str, Any]:
        """Jobs are taken also while no worker lives: they wait."""
        live = workers.alive(self._db, self._settings)
        detail = "" if live else "no worker has been heard of lately; jobs wait"
        return {"ok": True, "engine": "procrastinate", "workers": len(live), "detail": detail}

    def maintain(self) -> int:
        """Defer tasks where fewer wait than jobs do (a task ended with its worker, or its claim failed).

        A task is a ticket for any job of its pool, so a job whose own task has run needs no other as long as
        there are enough of them.
        """
        deferred = 0
        with self._db.write() as connection:
            tickets = {row.pool: row.number for row in connection.execute(_TICKETS, {"task": TASK})}
            waiting = {row.pool: row.number for row in connection.execute(_WAITING)}
            for row in connection.execute(_ORPHANS, {"task": TASK}).all():
                if tickets.get(row.pool, 0) < waiting.get(row.pool, 0):
                    tickets[row.pool] = tickets.get(row.pool, 0) + 1
                    self.enqueue(connection, row.id, row.pool)
                    deferred += 1
        return deferred


class ProcrastinateConsumer:
    """A worker: takes tasks of its pools, `slots` at a time, and survives restarts of the database."""

    def __init__(self, worker: Worker, db: Database) -> None:
        self._worker, self._db = worker, db

    def serve(self, stop: threading.Event) -> None:
        """Until `stop`; running jobs have ended by then."""
        asyncio.run(self._serve(stop))

    async def _serve(self, stop: threading.Event) -> None:
        loop = asyncio.get_running_loop()
        slots = self._worker.settings.slots
        loop.set_default_executor(ThreadPoolExecutor(slots + 4, thread_name_prefix="job"))
        while not stop.is_set():
            try:
                if self._worker.pools():
                    await self._session(stop)
                else:  # no pool can be offered now; an empty list would mean all of them
                    await asyncio.sleep(1.0)
            except (ProcrastinateException, psycopg.Error, OSError) as error:
                log.warning("engine reconnects: %s", type(error).__name__)
                await asyncio.sleep(1.0)

    async def _session(self, stop: threading.Event) -> None:
        slots, pools = self._worker.settings.slots, self._worker.pools()
        connector = procrastinate.PsycopgConnector(
            conninfo=self._db.dsn, min_size=1, max_size=slots + 4, timeout=10, reconnect_timeout=5
        )
        app = procrastinate.App(connector=connector)
        _register(app, self._run)
        async with app.open_async():
            work = asyncio.create_task(
                app.run_worker_async(
                    queues=pools, concurrency=slots, name=self._worker.name,
                    # A notification that comes while it fetches is forgotten: it must look soon again.
                    fetch_job_polling_interval=0.5, delete_jobs="always", install_signal_handlers=False,
                    update_heartbeat_interval=self._worker.settings.lease / 3,
                    stalled_worker_timeout=self._worker.settings.lease,
                )
            )  # fmt: skip
            try:
                await self._until(stop, work, app, pools)
            finally:
                work.cancel()
                with suppress(asyncio.CancelledError):
                    await work

    async def _until(
        self, stop: threading.Event, work: asyncio.Task[None], app: procrastinate.App, pools: list[str]
    ) -> None:
        """Wait until `stop`, the end of `work`, or other pools than `pools` being offered."""
        ticks = 0
        while not stop.is_set() and not work.done() and self._worker.pools() == pools:
            await asyncio.sleep(0.1)
            ticks += 1
            if ticks % 100 == 0:
                await self._forget_stalled(app)
        if work.done() and not work.cancelled() and (error := work.exception()) is not None:
            raise error

    async def _forget_stalled(self, app: procrastinate.App) -> None:
        """Tasks of dead workers: the reaper has made new ones by our leases."""
        for task in await app.job_manager.get_stalled_jobs(
            task_name=TASK, seconds_since_heartbeat=self._worker.settings.lease
        ):
            await app.job_manager.finish_job(task, procrastinate.jobs.Status.FAILED, delete_job=True)

    def _run(self, job_id: str) -> None:
        try:
            for each in leases.next_for_ticket(self._db, self._worker.pools(), job_id):
                if self._worker.run(each):
                    return
        except ServiceError as error:
            log.warning("job not claimed", extra={"job": job_id, "code": error.error_code})


def _register(app: procrastinate.App, run: Callable[[str], None]) -> Any:
    def task(job_id: str) -> None:
        run(job_id)

    return cast(Any, app.task(name=TASK)(task))


def _ensure_schema(db: Database) -> None:
    """Procrastinate's own tables, once, whoever comes first."""
    with db.write() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _SCHEMA_LOCK})
        if connection.execute(text("SELECT to_regclass('procrastinate_jobs')")).scalar() is not None:
            return
        raw = cast(Any, connection.connection.driver_connection)
        raw.execute(procrastinate.schema.SchemaManager.get_schema())
