"""Who may read which bytes, and what still needs them."""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, or_, select, update

from service.errors import NotFound
from service.store import tables
from service.store.db import Database, now


def add_blob(db: Database, connection: Connection, tenant: str, digest: str, size: int) -> bool:
    """Note that the tenant has these bytes; True when it had not before."""
    clock = now()
    values = {"tenant": tenant, "digest": digest, "size": size, "created_at": clock, "last_used_at": clock}
    insert = db.insert(tables.blobs).values(**values)
    if connection.execute(insert.on_conflict_do_nothing().returning(tables.blobs.c.digest)).first():
        return True
    mine = (tables.blobs.c.tenant == tenant, tables.blobs.c.digest == digest)
    connection.execute(update(tables.blobs).where(*mine).values(last_used_at=clock))
    return False


def blob_size(connection: Connection, tenant: str, digest: str) -> int | None:
    """Size of the tenant's blob; None when the tenant never stored it (whoever else did)."""
    table = tables.blobs
    query = select(table.c.size).where(table.c.tenant == tenant, table.c.digest == digest)
    return connection.execute(query).scalar()


def require_blob(connection: Connection, tenant: str, digest: str) -> int:
    """Size, or NotFound with what to do."""
    size = blob_size(connection, tenant, digest)
    if size is None:
        raise NotFound(
            f"No blob {digest}.", code="blob_not_found", hint=f"Upload it first: PUT /v1/blobs/{digest}."
        )
    return size


def add_artifact(
    db: Database,
    connection: Connection,
    tenant: str,
    digest: str,
    *,
    main: bool = True,
    **values: str | int | float,
) -> None:
    """Insert an artifact; one that was quarantined is published when another job proves it.

    main: it is the job's artifact, which the job's report and attestation are about: the newest such job is
    named. A recalibrated artifact leaves a published one to its job.
    """
    table = tables.artifacts
    insert = db.insert(table).values(tenant=tenant, digest=digest, created_at=now(), **values)
    connection.execute(insert.on_conflict_do_nothing())
    if values["state"] == "published":
        mine = [table.c.tenant == tenant, table.c.digest == digest]
        if not main:
            mine.append(table.c.state != "published")
        connection.execute(update(table).where(*mine).values(state="published", job_id=values["job_id"]))


ORT_FORMAT = "ort"  # the form of a report under which its artifact in ORT format is kept


def add_rendering(
    db: Database, connection: Connection, report: str, form: str, digest: str, size: int
) -> None:
    """Keep a blob as long as a job names the report; a job that has its result from another job does too."""
    values = {"digest": digest, "size": size, "version": 0, "created_at": now()}
    insert = db.insert(tables.renderings).values(report_digest=report, form=form, **values)
    connection.execute(insert.on_conflict_do_update(index_elements=["report_digest", "form"], set_=values))


def find_rendering(connection: Connection, report: str, form: str) -> tuple[str, int] | None:
    """Return digest and size of what was kept under that form; None where there is nothing."""
    columns = tables.renderings.c
    query = select(columns.digest, columns.size).where(columns.report_digest == report, columns.form == form)
    row = connection.execute(query).first()
    return None if row is None else (row.digest, row.size)


def is_released(connection: Connection, tenant: str, digest: str) -> bool:
    """True when a release points, or ever pointed, to the artifact."""
    table = tables.release_history
    query = select(func.count()).where(table.c.tenant == tenant, table.c.digest == digest)
    return bool(connection.execute(query).scalar_one())


def drop_artifact_if_unused(connection: Connection, tenant: str, digest: str) -> None:
    """Forget an artifact that neither a job nor a release names."""
    jobs = tables.jobs.c
    made = or_(jobs.artifact_digest == digest, jobs.recalibrated_digest == digest)
    users = select(func.count()).where(jobs.tenant == tenant, made)
    if connection.execute(users).scalar_one() or is_released(connection, tenant, digest):
        return
    table = tables.artifacts
    connection.execute(delete(table).where(table.c.tenant == tenant, table.c.digest == digest))
