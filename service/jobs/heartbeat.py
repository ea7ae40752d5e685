"""Keeps the leases of a worker's attempts, and passes cancellation on to them."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress

from service.errors import ServiceError
from service.jobs import leases
from service.jobs.model import State
from service.jobs.worker import Attempt, Worker
from service.process.supervision import FAULTS, start_thread
from service.store import workers
from service.store.change_feed import Changes

ALIVE_INTERVAL = 10.0
log = logging.getLogger("bnfold.worker")


class Heartbeat:
    """One thread per worker process: renews every third of a lease, looks whenever something changed."""

    def __init__(self, worker: Worker, changes: Changes) -> None:
        self._worker, self._changes = worker, changes
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._renewed = time.monotonic()
        self._touched = float("-inf")

    def start(self) -> None:
        """Begin."""
        self._thread = start_thread("heartbeat", self._loop, self._stop)

    def stop(self) -> None:
        """End, after the last attempt."""
        self._stop.set()
        if self._thread is None or self._thread.ident is None:
            return  # never started
        self._thread.join(timeout=5)
        with suppress(ServiceError):
            workers.leave(self._worker.db, self._worker.name)

    def _loop(self) -> None:
        interval = self._worker.settings.lease / 3
        cursor = self._changes.cursor(lambda word: word in self._worker.active)
        reported = 0.0
        while not self._stop.is_set():
            cursor.wait(min(0.5, interval / 2), self._stop)
            due = time.monotonic() - self._renewed > interval
            self.touch()
            try:
                self._beat(renew=due)
                if time.monotonic() - reported > interval:
                    reported = time.monotonic()
                    self._report()
                FAULTS.clear("heartbeat")
            except Exception as error:  # noqa: BLE001  leases must be renewed whatever happened last time
                FAULTS.note("heartbeat", error)
                log.warning("heartbeat failed: %s", type(error).__name__)
                self._expire()

    def touch(self) -> None:
        """Show a probe that this thread runs; the database may be away. At most once in ten seconds."""
        path = self._worker.settings.alive_file
        if path is not None and time.monotonic() - self._touched > ALIVE_INTERVAL:
            self._touched = time.monotonic()
            with suppress(OSError):
                path.touch()

    def _report(self) -> None:
        worker = self._worker
        workers.report(
            worker.db, worker.settings, worker.name, worker.runner.level(), worker.pools(), worker.status()
        )

    def _beat(self, *, renew: bool) -> None:
        attempts = dict(self._worker.active)
        held = {job_id: attempt.job.attempt for job_id, attempt in attempts.items()}
        if not held:
            self._renewed = time.monotonic()
            return
        db, settings = self._worker.db, self._worker.settings
        begun = time.monotonic()
        found = leases.renew(db, settings, held) if renew else leases.states(db, held)
        if renew:
            self._renewed = begun
        for job_id, state in found.items():
            self._judge(attempts[job_id], state)

    def _judge(self, attempt: Attempt, state: State | None) -> None:
        if state is State.RUNNING:
            return
        if state is not State.STOPPING and attempt.job.id in self._worker.active:
            attempt.lost = state is None or state is State.QUEUED
        attempt.cancel.set()

    def _expire(self) -> None:
        """The database is away: once the lease is surely over, another worker may hold the job."""
        if time.monotonic() - self._renewed > self._worker.settings.lease:
            for attempt in list(self._worker.active.values()):
                if not attempt.cancel.is_set():
                    log.error("lease lost", extra={"job": attempt.job.id})
                attempt.lost = True
                attempt.cancel.set()
