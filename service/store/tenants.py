"""Quotas of tenants: the settings' numbers, unless the tenant has its own."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from service.errors import TooMany
from service.settings import Settings
from service.store import tables
from service.store.db import Database, now

DAY = 86_400


def quota(connection: Connection, settings: Settings, tenant: str, name: str) -> int:
    """`running`, `queued`, `stored_bytes` or `upload_bytes`; 0 is no limit."""
    query = select(tables.tenants.c.quotas).where(tables.tenants.c.id == tenant)
    own = connection.execute(query).scalar() or {}
    return int(own.get(name, getattr(settings, f"quota_{name}")))


def usage(db: Database, settings: Settings, tenant: str) -> dict[str, tuple[int, int]]:
    """Return (used, limit) by the name of the quota; a limit of 0 is none."""
    jobs, blobs, uploads = tables.jobs.c, tables.blobs.c, tables.usage.c
    count = select(func.count()).where(jobs.tenant == tenant)
    day = int(now() // DAY)
    queries = {
        "running": count.where(jobs.state.in_(("running", "stopping"))),
        "queued": count.where(jobs.state == "queued"),
        "stored_bytes": select(func.coalesce(func.sum(blobs.size), 0)).where(blobs.tenant == tenant),
        "upload_bytes": select(func.coalesce(func.sum(uploads.uploaded_bytes), 0)).where(
            uploads.tenant == tenant, uploads.day == day
        ),
    }
    with db.read() as connection:
        return {
            name: (int(connection.execute(query).scalar_one()), quota(connection, settings, tenant, name))
            for name, query in queries.items()
        }


def allowance(db: Database, settings: Settings, tenant: str) -> int | None:
    """Bytes that the tenant may still upload now; None where nothing limits it. Raises TooMany at zero."""
    day = int(now() // DAY)
    with db.read() as connection:
        stored_limit = quota(connection, settings, tenant, "stored_bytes")
        upload_limit = quota(connection, settings, tenant, "upload_bytes")
        left: list[tuple[int, float]] = []
        if stored_limit:
            query = select(func.coalesce(func.sum(tables.blobs.c.size), 0)).where(
                tables.blobs.c.tenant == tenant
            )
            left.append((stored_limit - int(connection.execute(query).scalar_one()), 3600.0))
        if upload_limit:
            used = select(tables.usage.c.uploaded_bytes).where(
                tables.usage.c.tenant == tenant, tables.usage.c.day == day
            )
            left.append((upload_limit - int(connection.execute(used).scalar() or 0), (day + 1) * DAY - now()))
    if not left:
        return None
    amount, wait = min(left)
    if amount <= 0:
        raise too_much(wait)
    return amount


def room(
    db: Database, connection: Connection, settings: Settings, tenant: str, digest: str, size: int
) -> None:
    """Raise TooMany unless the tenant may store these bytes now.

    `allowance` was asked before they came; others of the tenant may have stored theirs since.
    """
    limit = quota(connection, settings, tenant, "stored_bytes")
    if not limit:
        return
    db.alone(connection, "stored", tenant)
    table = tables.blobs.c
    others = select(func.coalesce(func.sum(table.size), 0)).where(
        table.tenant == tenant, table.digest != digest
    )
    if int(connection.execute(others).scalar_one()) + size > limit:
        raise too_much()


def too_much(wait: float = 3600.0) -> TooMany:
    """The error of a used-up byte quota."""
    return TooMany(
        "The tenant's quota of stored or uploaded bytes is used up.",
        hint="Delete jobs and models that are no longer needed, or wait.",
        retry_after=wait,
    )


def within_day(db: Database, settings: Settings, tenant: str, used: int) -> None:
    """Raise TooMany when `used`, what the tenant's uploads of today sum up to, is above its quota."""
    with db.read() as connection:
        limit = quota(connection, settings, tenant, "upload_bytes")
    if limit and used > limit:
        raise too_much((int(now() // DAY) + 1) * DAY - now())


def charge(db: Database, tenant: str, size: int) -> int:
    """Count uploaded bytes, also of uploads that were refused: they cost the same. The sum of the day."""
    table = tables.usage
    row = {"tenant": tenant, "day": int(now() // DAY), "uploaded_bytes": size}
    insert = db.insert(table).values(**row)
    total = table.c.uploaded_bytes + insert.excluded.uploaded_bytes
    with db.write() as connection:
        upsert = insert.on_conflict_do_update(
            index_elements=["tenant", "day"], set_={"uploaded_bytes": total}
        )
        return int(connection.execute(upsert.returning(table.c.uploaded_bytes)).scalar_one())
