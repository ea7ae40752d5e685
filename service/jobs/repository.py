"""Reading and moving job rows. Each function works inside the caller's transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from service.errors import NotFound
from service.jobs.model import TERMINAL, Job, State
from service.jobs.outbox import announce
from service.jobs.transitions import Cause, after
from service.store import tables, tallies
from service.store.db import PROGRESS, QUEUED, Database, now

J = tables.jobs.c


def find(connection: Connection, tenant: str, job_id: str) -> Job:
    """The tenant's job; NotFound for everybody else's."""
    row = connection.execute(select(tables.jobs).where(J.id == job_id, J.tenant == tenant)).first()
    if row is None:
        raise NotFound(
            f"No job {job_id[:60]!r}.",
            hint="List your jobs: the page Jobs, `bnfold status`, or GET /v1/jobs.",
        )
    return Job.of(row)


def find_maker(connection: Connection, tenant: str, artifact: str) -> Job | None:
    """Return the newest job of the tenant with this published result; a second artifact comes last."""
    for column in (J.artifact_digest, J.recalibrated_digest):
        query = select(tables.jobs).where(J.tenant == tenant, column == artifact, J.verdict == "pass")
        row = connection.execute(query.order_by(J.created_at.desc()).limit(1)).first()
        if row is not None:
            return Job.of(row)
    return None


def load(connection: Connection, job_id: str) -> Job | None:
    """Any tenant's job, for workers."""
    row = connection.execute(select(tables.jobs).where(J.id == job_id)).first()
    return Job.of(row) if row is not None else None


def move(
    db: Database,
    connection: Connection,
    job: Job,
    cause: Cause,
    *,
    attempt: int | None = None,
    next_attempt: int | None = None,
    **values: Any,
) -> Job | None:
    """Change the state as the table says, write an event, and tell listeners.

    The update holds only while the row is still in `job.state` (and, with `attempt`, still that attempt's):
    None means that somebody else was faster, and nothing was changed.
    """
    target = after(job.state, cause)
    clock = now()
    if target in TERMINAL:
        values = {"finished_at": clock, "lease_owner": None, "lease_until": None} | values
    elif target is State.QUEUED:
        values = {"lease_owner": None, "lease_until": None, "stage": None, "progress": None} | values
    query = update(tables.jobs).where(J.id == job.id, J.state == job.state.value)
    if next_attempt is not None:
        values["attempt"] = next_attempt
    if attempt is not None:
        query = query.where(J.attempt == attempt)
    query = query.values(state=target.value, updated_at=clock, event_seq=J.event_seq + 1, **values)
    row = connection.execute(query.returning(*tables.jobs.c)).first()
    if row is None:
        return None
    moved = Job.of(row)
    data: dict[str, Any] = {"state": target.value, "attempt": moved.attempt, "cause": cause.value}
    if moved.verdict and target in TERMINAL:
        data["verdict"] = moved.verdict
    if moved.error and target is State.FAILED:
        data["error"] = {"code": moved.error.get("code"), "message": moved.error.get("message")}
    _add(connection, moved.id, moved.event_seq, "state", data)
    tallies.add(db, connection, _counted(moved, cause))
    if target in TERMINAL:
        announce(db, connection, moved)
    db.touch(connection, moved.id, QUEUED if target is State.QUEUED else "")
    return moved


def _counted(job: Job, cause: Cause | None) -> dict[tuple[str, str], int]:
    """What a change of state adds to the counters of the deployment."""
    found: dict[tuple[str, str], int] = {("transitions", cause.value): 1} if cause is not None else {}
    if not job.done:
        return found
    error = str((job.error or {}).get("code") or "") if job.state is State.FAILED else ""
    found["ended", f"{job.kind.value}/{job.state.value}/{job.verdict or ''}/{error}"] = 1
    if job.cached_from is not None:
        found["cache_hits", job.kind.value] = 1
        return found
    for code, layers in ((job.cost or {}).get("findings") or {}).items():
        found["findings", str(code)] = int(layers)
    for name in ("wall_milliseconds", "cpu_milliseconds", "read_bytes", "written_bytes", "stored_bytes"):
        found["cost", name] = int((job.cost or {}).get(name) or 0)
    return found


def note(
    db: Database,
    connection: Connection,
    held: tuple[str, int],
    type_: str,
    data: dict[str, Any],
    **values: Any,
) -> bool:
    """Write a progress or log event of one attempt; False when the attempt no longer holds the job."""
    job_id, attempt = held
    query = update(tables.jobs).where(J.id == job_id, J.attempt == attempt, J.state == State.RUNNING.value)
    query = query.values(event_seq=J.event_seq + 1, updated_at=now(), **values).returning(J.event_seq)
    row = connection.execute(query).first()
    if row is None:
        return False
    _add(connection, job_id, row[0], type_, data)
    db.touch(connection, job_id, PROGRESS)
    return True


def create(db: Database, connection: Connection, values: dict[str, Any]) -> Job:
    """Insert a job and its first event."""
    row = connection.execute(insert(tables.jobs).values(**values).returning(*tables.jobs.c)).one()
    job = Job.of(row)
    _add(connection, job.id, job.event_seq, "state", {"state": job.state.value, "attempt": job.attempt})
    if job.done:
        tallies.add(db, connection, _counted(job, None))
        announce(db, connection, job)
    db.touch(connection, job.id, "" if job.done else QUEUED)
    return job


def events_after(connection: Connection, job_id: str, seq: int, limit: int = 500) -> list[Row[Any]]:
    """The job's events past `seq`, oldest first."""
    table = tables.events
    query = (
        select(table).where(table.c.job_id == job_id, table.c.seq > seq).order_by(table.c.seq).limit(limit)
    )
    return list(connection.execute(query))


def _add(connection: Connection, job_id: str, seq: int, type_: str, data: dict[str, Any]) -> None:
    connection.execute(insert(tables.events).values(job_id=job_id, seq=seq, at=now(), type=type_, data=data))
