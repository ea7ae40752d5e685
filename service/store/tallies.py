"""Counters of the whole deployment: they change in the transaction that they count, in any process.

Workers have no address that a scraper could ask, and a counter in a process is lost with it. Each process
adds to a shard of its own, so that two workers seldom wait for each other's row.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from sqlalchemy import Connection, func, select

from service.store import tables
from service.store.db import Database

Key = tuple[str, str]  # name, and label values joined by `/`
_SHARDS = 16
Y = tables.tallies.c


def add(db: Database, connection: Connection, amounts: Mapping[Key, int]) -> None:
    """Add to counters, in the caller's transaction; in one order always, so that no two can deadlock."""
    rows = [
        {"name": name, "label": label[:120], "shard": os.getpid() % _SHARDS, "value": amount}
        for (name, label), amount in sorted(amounts.items())
        if amount
    ]
    for row in rows:
        insert = db.insert(tables.tallies).values(**row)
        grown = tables.tallies.c.value + insert.excluded.value
        connection.execute(
            insert.on_conflict_do_update(index_elements=["name", "label", "shard"], set_={"value": grown})
        )


def read(db: Database) -> dict[Key, int]:
    """Return every counter, summed over the shards."""
    query = select(Y.name, Y.label, func.sum(Y.value).label("value")).group_by(Y.name, Y.label)
    with db.read() as connection:
        return {(row.name, row.label): int(row.value) for row in connection.execute(query)}
