"""Which workers are alive, and what they are: one row each, written with the heartbeat."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, delete, select

from folding import toolchain
from service.settings import Settings
from service.store import tables
from service.store.db import Database, now

W = tables.workers.c


def report(
    db: Database,
    settings: Settings,
    name: str,
    sandbox: str,
    pools: list[str] | None = None,
    status: dict[str, Any] | None = None,
) -> None:
    """Say that this worker is alive; forget those that have been silent for long.

    Args:
        pools: those that it can offer now; by default those of the settings.
        status: what is wrong there, see `tables.workers`.
    """
    values = {
        "pools": settings.pools if pools is None else pools,
        "status": status or {},
        "slots": settings.slots,
        "sandbox": sandbox,
        "version": toolchain.version(),
        "seen_at": now(),
    }
    with db.write() as connection:
        insert = db.insert(tables.workers).values(name=name, **values)
        connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_=values))
        connection.execute(delete(tables.workers).where(W.seen_at < now() - 20 * settings.lease))


def leave(db: Database, name: str) -> None:
    """This worker ends."""
    with db.write() as connection:
        connection.execute(delete(tables.workers).where(W.name == name))


def alive(db: Database, settings: Settings) -> list[Row[Any]]:
    """Workers heard of within a lease."""
    clock = now()
    # A time far ahead was written before the clock was set back, by a worker that has not reported since.
    fresh = (W.seen_at > clock - settings.lease, W.seen_at < clock + settings.lease)
    query = select(tables.workers).where(*fresh).order_by(W.name)
    with db.read() as connection:
        return list(connection.execute(query))
