"""Who holds which job. `attempt` is the fencing token: only the newest attempt may write.

Given: a queued row. Result: `claim` makes it running under a lease; `renew` keeps the lease; `reap` re-queues
rows whose lease ran out. A worker that was stopped and comes back finds its attempt number outdated.
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select, update

from service.jobs import repository, turns
from service.jobs.model import Job, Kind, State
from service.jobs.queue import Queue
from service.jobs.transitions import Cause
from service.settings import Settings
from service.store import tables
from service.store.db import Database, now
from service.store.tenants import quota

J = tables.jobs.c
_HELD = turns.HELD
# Clocks of hosts differ a little; a lease is not called impossible for that.
CLOCK_SLACK = 5.0


def next_queued(db: Database, pools: list[str], limit: int = 8, kinds: tuple[Kind, ...] = ()) -> list[str]:
    """Ids of jobs that may be claimed, tenants in turn."""
    return [job_id for job_id, _ in turns.next_jobs(db, pools, limit, kinds)]


def next_for_ticket(db: Database, pools: list[str], job_id: str) -> list[str]:
    """Ids to try, in order, for an engine that delivers in order of submission: `job_id` is a ticket.

    While its tenant is next in turn, the job is run itself, so that workers do not meet at the same row.
    """
    found = turns.next_jobs(db, pools, 8)
    with db.read() as connection:
        mine = repository.load(connection, job_id)
    rest = [each for each, _ in found if each != job_id]
    if mine is not None and mine.state is State.QUEUED and (not found or found[0][1] == mine.tenant):
        return [job_id, *rest]
    return [*rest, job_id]


def claim(db: Database, settings: Settings, job_id: str, owner: str) -> Job | None:
    """Take the lease; None when the job is no longer queued, or its tenant runs as many as it may."""
    with db.write() as connection:
        job = repository.load(connection, job_id)
        if job is None or job.state is not State.QUEUED or _at_limit(db, connection, settings, job.tenant):
            return None
        clock = now()
        turns.mark_served(db, connection, job.tenant)
        return repository.move(
            db,
            connection,
            job,
            Cause.CLAIM,
            attempt=job.attempt,
            next_attempt=job.attempt + 1,
            lease_owner=owner,
            lease_until=clock + settings.lease,
            started_at=job.started_at or clock,
        )


def _at_limit(db: Database, connection: Connection, settings: Settings, tenant: str) -> bool:
    limit = quota(connection, settings, tenant, "running")
    if not limit:
        return False
    db.alone(connection, "running", tenant)
    query = select(func.count()).where(J.tenant == tenant, J.state.in_(_HELD))
    return int(connection.execute(query).scalar_one()) >= limit


def renew(db: Database, settings: Settings, held: dict[str, int]) -> dict[str, State | None]:
    """Extend the leases of these attempts; each one's state, None where the attempt is no longer ours."""
    result: dict[str, State | None] = {}
    with db.write() as connection:
        for job_id, attempt in held.items():
            query = update(tables.jobs).where(J.id == job_id, J.attempt == attempt, J.state.in_(_HELD))
            row = connection.execute(
                query.values(lease_until=now() + settings.lease).returning(J.state)
            ).first()
            result[job_id] = State(row[0]) if row is not None else None
    return result


def states(db: Database, held: dict[str, int]) -> dict[str, State | None]:
    """Like `renew`, only looking."""
    query = select(J.id, J.attempt, J.state).where(J.id.in_(held))
    with db.read() as connection:
        found = {row.id: row for row in connection.execute(query)}
    return {
        job_id: State(found[job_id].state) if job_id in found and found[job_id].attempt == attempt else None
        for job_id, attempt in held.items()
    }


def reap(db: Database, queue: Queue, settings: Settings) -> int:
    """Re-queue (or, after too many lost attempts, fail) every job whose lease ran out; how many."""
    latest = now() + settings.lease + CLOCK_SLACK
    over = or_(J.lease_until.is_(None), J.lease_until < now(), J.lease_until > latest)
    query = select(tables.jobs).where(and_(J.state.in_(_HELD), over)).limit(200)
    with db.read() as connection:
        found = [Job.of(row) for row in connection.execute(query)]
    lost = [
        job for job in found if (job.lease_until or 0) < latest or _STANDING_STILL.lost(job, settings.lease)
    ]
    return sum(lose(db, queue, settings, job) for job in lost)


class StandingStill:
    """Leases that end later than any lease can: written before the clock was set back.

    Their worker may live, and renews them by the new clock within a third of a lease. One that has not
    changed for a whole lease, by this process's monotonic clock, is over.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int, float | None], float] = {}

    def lost(self, job: Job, lease: float) -> bool:
        """Return True when this very lease was seen a whole lease ago."""
        if len(self._seen) > 10_000:
            self._seen.clear()
        clock, key = time.monotonic(), (job.id, job.attempt, job.lease_until)
        return clock - self._seen.setdefault(key, clock) > lease


_STANDING_STILL = StandingStill()


def lose(db: Database, queue: Queue, settings: Settings, job: Job) -> bool:
    """One lost attempt: back to the queue, or to `failed` when it was the last."""
    lost = job.lost_attempts + 1
    with db.write() as connection:
        fresh = repository.load(connection, job.id)
        if fresh is None or fresh.attempt != job.attempt or fresh.lease_until != job.lease_until:
            return False  # renewed or ended meanwhile
        if lost >= settings.max_attempts and fresh.state is State.RUNNING:
            error = {
                "code": "lost_lease",
                "class": "TemporaryFailure",
                "message": f"The job's worker was lost {lost} times.",
                "hint": "See the workers' logs; POST …:retry runs it again.",
                "details": {"losses": lost},
            }
            cause = Cause.FAIL
            return _moved(db, connection, fresh, cause, error=error, lost_attempts=lost)
        moved = _moved(db, connection, fresh, Cause.LOSE, lost_attempts=lost)
        if moved and fresh.state is State.RUNNING:
            queue.enqueue(connection, job.id, job.pool)
        return moved


def _moved(db: Database, connection: Connection, job: Job, cause: Cause, **values: Any) -> bool:
    return repository.move(db, connection, job, cause, attempt=job.attempt, **values) is not None
