"""What can be done with jobs. Every method is one transaction and returns after its commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, or_, select, tuple_, update

from service.errors import Conflict, CorruptBlob, NotFound, TooMany, Unprocessable
from service.jobs import repository, turns
from service.jobs.model import TERMINAL, Job, Kind, State
from service.jobs.queue import Queue
from service.jobs.requests import Submission
from service.jobs.sorting import SORTS, Sort
from service.jobs.transitions import Cause, after
from service.settings import Settings
from service.store import ids, references, tables, workers
from service.store.blobs import Verifier
from service.store.db import Database, now
from service.store.tenants import quota

J = tables.jobs.c
_ACTIVE = (State.QUEUED.value, State.RUNNING.value, State.STOPPING.value)


@dataclass(frozen=True)
class Submitted:
    """The job, and how it came about.

    `new`, `hit` (answered from the cache), `replay` (same Idempotency-Key) or `joined` (identical work that
    has not ended yet).
    """

    job: Job
    how: str


@dataclass(frozen=True)
class Jobs:
    """Use cases of jobs."""

    db: Database
    queue: Queue
    verifier: Verifier
    settings: Settings

    def submit(self, ask: Submission) -> Submitted:
        """Queue the work, or answer from the cache; with an Idempotency-Key at most one job ever exists."""
        hit = None if ask.fresh else self._cached(ask)
        with self.db.write() as connection:
            given = (ask.input_digest, ask.calibration_digest, ask.probe_digest, ask.candidate_digest)
            for digest in filter(None, given):
                references.require_blob(connection, ask.tenant, digest)
            job_id = ids.new("job")
            if ask.idempotency_key is not None:
                earlier = self._claim_key(connection, ask, job_id)
                if earlier is not None:
                    return Submitted(earlier, "replay")
            if hit is None and ask.join:
                active = self._active_twin(connection, ask)
                if active is not None:
                    return Submitted(active, "joined")
            values = self._values(ask, job_id)
            if hit is not None:
                return Submitted(repository.create(self.db, connection, values | _result_of(hit)), "hit")
            self._check_quota(connection, ask.tenant)
            job = repository.create(self.db, connection, values)
            self.queue.enqueue(connection, job.id, job.pool)
            return Submitted(job, "new")

    def _claim_key(self, connection: Connection, ask: Submission, job_id: str) -> Job | None:
        """None: the key is ours now. Otherwise the job that it already stands for."""
        table = tables.idempotency
        row = {"tenant": ask.tenant, "key": ask.idempotency_key, "fingerprint": ask.fingerprint()}
        insert = self.db.insert(table).values(job_id=job_id, created_at=now(), **row)
        if connection.execute(insert.on_conflict_do_nothing().returning(table.c.job_id)).first():
            return None
        query = select(table.c.fingerprint, table.c.job_id)
        found = connection.execute(
            query.where(table.c.tenant == ask.tenant, table.c.key == ask.idempotency_key)
        ).one()
        if found.fingerprint != ask.fingerprint():
            raise Unprocessable(
                "This Idempotency-Key was used for a different request.",
                code="idempotency_key_reused",
                hint="Use a new key for new work.",
            )
        return repository.find(connection, ask.tenant, found.job_id)

    def _active_twin(self, connection: Connection, ask: Submission) -> Job | None:
        """The oldest job of the tenant that does the same work and has not ended."""
        waiting = (State.QUEUED.value, State.RUNNING.value)
        query = select(tables.jobs).where(
            J.tenant == ask.tenant, J.cache_key == ask.cache_key(), J.state.in_(waiting)
        )
        row = connection.execute(query.order_by(J.created_at).limit(1)).first()
        return Job.of(row) if row is not None else None

    def offers(self, pool: str) -> bool:
        """Whether a worker of the pool is there, or may come: none has said that it cannot offer it."""
        if pool not in self.settings.pools:
            return False
        live = workers.alive(self.db, self.settings)
        if any(pool in row.pools for row in live):
            return True
        return not any(pool in ((row.status or {}).get("pools") or {}) for row in live)

    def _values(self, ask: Submission, job_id: str) -> dict[str, Any]:
        clock = now()
        wants_cuda = "cuda" in (*ask.options.providers, *ask.options.require)
        empty = dict.fromkeys(column.key for column in tables.jobs.columns)
        return empty | {
            "id": job_id,
            "tenant": ask.tenant,
            "kind": ask.kind.value,
            "state": State.QUEUED.value,
            # Without a cuda pool the job runs on cpu, and its report calls the provider unavailable.
            "pool": "cuda" if wants_cuda and self.offers("cuda") else "cpu",
            "model_id": ask.model_id,
            "filename": ask.filename,
            "input_digest": ask.input_digest,
            "calibration_digest": ask.calibration_digest,
            "probe_digest": ask.probe_digest,
            "candidate_digest": ask.candidate_digest,
            "options": ask.dumped(),
            "cache_key": ask.cache_key(),
            "attempt": 0,
            "lost_attempts": 0,
            "crashes": 0,
            "not_before": 0.0,
            "position": turns.next_position(),
            "event_seq": 1,
            "created_at": clock,
            "updated_at": clock,
            "trace": ask.trace,
        }

    def _check_quota(self, connection: Connection, tenant: str) -> None:
        limit = quota(connection, self.settings, tenant, "queued")
        if not limit:
            return
        self.db.alone(connection, "queued", tenant)
        query = select(func.count()).where(J.tenant == tenant, J.state.in_(_ACTIVE))
        if connection.execute(query).scalar_one() >= limit:
            raise TooMany(
                f"{limit} jobs of this tenant are queued or running already.",
                hint="Wait for one to finish.",
                retry_after=10,
            )

    def _cached(self, ask: Submission) -> Job | None:
        return find_cached(self.db, self.verifier, ask.tenant, ask.cache_key())

    def get(self, tenant: str, job_id: str) -> Job:
        """One job."""
        with self.db.read() as connection:
            return repository.find(connection, tenant, job_id)

    def page(
        self,
        tenant: str,
        *,
        limit: int,
        before: tuple[float | str, str] | None,
        search: str | None = None,
        sort: Sort = "newest",
        **filters: str | None,
    ) -> list[Job]:
        """Return jobs in an order, those after `before` (value of the order's column, id) only.

        filters: by column (state, kind, model_id, verdict, health). search: part of the job's name, its
        file's name or its id, in any case.
        """
        column, falling = SORTS[sort]
        query = select(tables.jobs).where(J.tenant == tenant)
        if search:
            parts = (column.icontains(search, autoescape=True) for column in (J.label, J.filename, J.id))
            query = query.where(or_(*parts))
        for name, value in filters.items():
            if value is not None:
                query = query.where(tables.jobs.c[name] == value)
        if before is not None:
            here, mark = tuple_(column, J.id), tuple_(*before)
            query = query.where(here < mark if falling else here > mark)
        both = (column.desc(), J.id.desc()) if falling else (column, J.id)
        query = query.order_by(*both).limit(limit)
        with self.db.read() as connection:
            return [Job.of(row) for row in connection.execute(query)]

    def rename(self, tenant: str, job_id: str, label: str | None) -> Job:
        """Give a job a name of its owner's; None takes the file's name again."""
        with self.db.write() as connection:
            repository.find(connection, tenant, job_id)
            query = update(tables.jobs).where(J.id == job_id, J.tenant == tenant).values(label=label)
            return Job.of(connection.execute(query.returning(*J)).one())

    def cancel(self, tenant: str, job_id: str) -> Job:
        """Stop it: at once while it waits, as soon as its worker has killed the runner while it runs."""
        while True:
            with self.db.write() as connection:
                job = repository.find(connection, tenant, job_id)
                if after(job.state, Cause.CANCEL) is job.state:
                    return job
                moved = repository.move(self.db, connection, job, Cause.CANCEL)
                if moved is not None:
                    return moved

    def retry(self, tenant: str, job_id: str) -> Job:
        """Run a failed, cancelled or rejected job again; attempts go on counting."""
        with self.db.write() as connection:
            job = repository.find(connection, tenant, job_id)
            references.require_blob(connection, tenant, job.input_digest)
            after(job.state, Cause.RETRY)
            self._check_quota(connection, tenant)
            fresh = dict.fromkeys(
                ("error", "verdict", "headline", "health", "report_digest", "artifact_digest",
                 "artifact_bytes", "recalibrated_digest", "recalibrated", "cached_from",
                 "started_at", "finished_at", "message", "sandbox", "cost")
            )  # fmt: skip
            moved = repository.move(
                self.db,
                connection,
                job,
                Cause.RETRY,
                lost_attempts=0,
                crashes=0,
                not_before=0.0,
                position=turns.next_position(),
                **fresh,
            )
            if moved is None:
                raise Conflict("The job has just changed.", code="wrong_state", hint="Look again.")
            self.queue.enqueue(connection, job.id, job.pool)
            return moved

    def delete(self, tenant: str, job_id: str) -> None:
        """Remove a finished job; an artifact that a release points to keeps it from going."""
        with self.db.write() as connection:
            job = repository.find(connection, tenant, job_id)
            if job.state not in TERMINAL:
                raise Conflict(f"The job is {job.state}.", code="wrong_state", hint="Cancel it first.")
            if any(references.is_released(connection, tenant, digest) for digest in job.artifacts):
                raise Conflict(
                    "A release points to an artifact of this job.",
                    code="in_use",
                    hint="Releases keep their history; delete the release first.",
                )
            remove(connection, [job])

    def events(self, job_id: str, seq: int) -> list[Any]:
        """Events past `seq`; the caller has checked the tenant."""
        with self.db.read() as connection:
            return repository.events_after(connection, job_id, seq)

    def place(self, job: Job) -> turns.Place | None:
        """Where the job stands in the queue, None once it has been taken."""
        return turns.place_of(self.db, self.settings, job)

    def counts(self) -> dict[tuple[str, str, str], int]:
        """Jobs by (kind, state, pool), for metrics."""
        query = select(J.kind, J.state, J.pool, func.count()).group_by(J.kind, J.state, J.pool)
        with self.db.read() as connection:
            return {(kind, state, pool): count for kind, state, pool, count in connection.execute(query)}


def find_cached(db: Database, verifier: Verifier, tenant: str, cache_key: str) -> Job | None:
    """The newest finished job for the same work whose bytes are all there and still right."""
    query = select(tables.jobs).where(
        J.tenant == tenant,
        J.cache_key == cache_key,
        J.state.in_((State.SUCCEEDED.value, State.REJECTED.value)),
    )
    with db.read() as connection:
        row = connection.execute(query.order_by(J.created_at.desc()).limit(1)).first()
    if row is None:
        return None
    job = Job.of(row)
    try:
        for digest in filter(None, (*job.artifacts, job.report_digest)):
            verifier.check(digest, now())
    except (CorruptBlob, NotFound):
        return None  # rot or loss: do the work again
    return job


def remove(connection: Connection, jobs: Sequence[Job]) -> None:
    """Delete the rows of finished jobs; their blobs go with the next collection."""
    gone = [job.id for job in jobs]
    for column in (tables.idempotency.c.job_id, tables.events.c.job_id, J.id):
        connection.execute(delete(column.table).where(column.in_(gone)))
    for tenant, digest in {(job.tenant, digest) for job in jobs for digest in job.artifacts}:
        references.drop_artifact_if_unused(connection, tenant, digest)


def _result_of(hit: Job) -> dict[str, Any]:
    clock = now()
    return {
        "state": hit.state.value,
        "cached_from": hit.cached_from or hit.id,
        "verdict": hit.verdict,
        "headline": hit.headline,
        "health": hit.health,
        "sandbox": hit.sandbox,
        "report_digest": hit.report_digest,
        "artifact_digest": hit.artifact_digest,
        "artifact_bytes": hit.artifact_bytes,
        "recalibrated_digest": hit.recalibrated_digest,
        "recalibrated": hit.recalibrated,
        "progress": 1.0,
        "started_at": clock,
        "finished_at": clock,
    }


__all__ = ["Jobs", "Kind", "Submitted", "find_cached", "remove"]
