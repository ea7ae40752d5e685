"""The order in which queued jobs are taken: tenants in turn, each tenant's jobs in order of submission.

    key(job) = (jobs of its tenant that run + its place among the tenant's queued ones,
                when the tenant was served last, its position)

A tenant with a hundred jobs delays another's single job by no more than the job that is running: when it
ends, the tenant that was served longer ago is next. Positions and turns are counters, not times, so a clock
that is set back changes nothing.

Two lanes: inspections take seconds, folds minutes. Every worker keeps `inspect_slots` for inspections alone.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    Subquery,
    func,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy import cast as sql_cast

from service.jobs.model import Job, Kind, State
from service.settings import Settings
from service.store import tables, workers
from service.store.db import Database, now

J, T = tables.jobs.c, tables.tenants.c
HELD = (State.RUNNING.value, State.STOPPING.value)
# No job is ever put off for longer. A later `not_before` was written before the clock was set back.
LONGEST_DELAY = 120.0
_TENANTS = 32  # looked at in turn, at least; among those never served, the order is by name beyond that
_SAMPLE = 50  # finished jobs that an estimate is made from


@dataclass(frozen=True)
class Place:
    """Where a queued job stands: 1 is next. `seconds` until it starts; None where nothing is known yet."""

    position: int
    seconds: float | None


def next_position() -> ColumnElement[int]:
    """Return an expression for the place behind every job there is."""
    return sql_cast(select(func.coalesce(func.max(J.position), 0) + 1).scalar_subquery(), BigInteger)


def mark_served(db: Database, connection: Connection, tenant: str) -> None:
    """Note that the tenant had its turn just now."""
    turn = select(func.coalesce(func.max(T.served), 0) + 1).scalar_subquery()
    if connection.execute(update(tables.tenants).where(T.id == tenant).values(served=turn)).rowcount:
        return
    values = {"id": tenant, "created_at": now(), "quotas": {}, "served": turn}
    connection.execute(db.insert(tables.tenants).values(**values).on_conflict_do_nothing())


def next_jobs(
    db: Database, pools: list[str], limit: int, kinds: tuple[Kind, ...] = ()
) -> list[tuple[str, str]]:
    """Return (id, tenant) of jobs that may be claimed, in turn; `kinds` empty: all.

    The work grows with the tenants that wait, not with the jobs that wait. The first `limit` jobs belong to
    the `limit` tenants that come first, and each of those gives no more than its first `limit`.
    """
    with db.read() as connection:
        return next_among(connection, pools, limit, kinds)


def next_among(
    connection: Connection, pools: list[str], limit: int, kinds: tuple[Kind, ...] = ()
) -> list[tuple[str, str]]:
    """Return what `next_jobs` does, within a transaction."""
    kinds = kinds or tuple(Kind)
    waiting = connection.execute(_waiting_tenants(pools, kinds)).all()
    waiting = sorted(set(waiting), key=lambda row: (row.running, row.served, row.tenant))
    running = {row.tenant: (row.running, row.served) for row in waiting}
    names, lot = list(running), max(limit, _TENANTS)
    rows: list[Row[Any]] = []
    # A tenant may have nothing but jobs that are put off or of other pools: then the next ones are looked at.
    for start in range(0, len(names), lot):
        heads = [_first_of(name, kind, pools, limit) for name in names[start : start + lot] for kind in kinds]
        rows += connection.execute(union_all(*heads)).all()
        if len(rows) >= limit:
            break
    rows = sorted(rows, key=lambda row: (row.position or 0, row.created_at, row.id))
    place: Counter[str] = Counter()
    keyed = []
    for row in rows:
        place[row.tenant] += 1
        count, served = running[row.tenant]
        keyed.append(
            (place[row.tenant] + count, served, row.position or 0, row.created_at, row.id, row.tenant)
        )
    return [(key[4], key[5]) for key in sorted(keyed)[:limit]]


def _waiting_tenants(pools: list[str], kinds: tuple[Kind, ...]) -> Select[tuple[str, int, int]]:
    """Tenants with queued jobs, how many of each run, and its turn: one look at an index for each of them."""
    found = union_all(*(_distinct_tenants(kind) for kind in kinds)).subquery()
    running = _running(pools)
    count, served = func.coalesce(running.c.count, 0), func.coalesce(T.served, 0)
    query = select(found.c.tenant, count.label("running"), served.label("served"))
    query = query.where(found.c.tenant.is_not(None))
    query = query.outerjoin(running, running.c.tenant == found.c.tenant)
    return query.outerjoin(tables.tenants, T.id == found.c.tenant)


def _distinct_tenants(kind: Kind) -> Select[tuple[str]]:
    waits = (J.state == State.QUEUED.value, J.kind == kind.value)
    first = select(func.min(J.tenant).label("tenant")).where(*waits)
    found = first.cte(f"waiting_{kind.value}", recursive=True)
    after = select(func.min(J.tenant)).where(*waits, J.tenant > found.c.tenant).scalar_subquery()
    found = found.union_all(select(after).where(found.c.tenant.is_not(None)))
    return select(found.c.tenant)


def _first_of(tenant: str, kind: Kind, pools: list[str], limit: int) -> Select[Any]:
    query = select(J.id, J.tenant, J.position, J.created_at).where(
        J.state == State.QUEUED.value, J.kind == kind.value, J.tenant == tenant, J.pool.in_(pools), _ready()
    )
    found = query.order_by(J.position, J.created_at, J.id).limit(limit).subquery()
    return select(found)


def _ready() -> ColumnElement[bool]:
    return or_(J.not_before <= now(), J.not_before > now() + LONGEST_DELAY)


def place_of(db: Database, settings: Settings, job: Job) -> Place | None:
    """Return where a queued job stands, None once it has been taken."""
    if job.state is not State.QUEUED:
        return None
    kinds = (Kind.INSPECT,) if job.kind is Kind.INSPECT else ()
    live = [row for row in workers.alive(db, settings) if job.pool in row.pools]
    slots = (
        sum(row.slots for row in live) if job.kind is not Kind.INSPECT else settings.inspect_slots * len(live)
    )
    with db.read() as connection:
        ids = [row.id for row in connection.execute(_in_turn([job.pool], kinds))]
        usual = _usual_seconds(connection, job)
    if job.id not in ids:
        return None
    position = ids.index(job.id) + 1
    seconds = None if usual is None or slots < 1 else round(math.ceil(position / slots) * usual, 1)
    return Place(position, seconds)


def _usual_seconds(connection: Connection, job: Job) -> float | None:
    """Median of what the newest jobs of the kind took; cached answers took nothing and do not count."""
    query = select(J.started_at, J.finished_at).where(
        J.kind == job.kind.value,
        J.state.in_((State.SUCCEEDED.value, State.REJECTED.value)),
        J.cached_from.is_(None),
        J.started_at.is_not(None),
        J.finished_at.is_not(None),
    )
    rows = connection.execute(query.order_by(J.finished_at.desc()).limit(_SAMPLE)).all()
    took = sorted(max(0.0, row.finished_at - row.started_at) for row in rows if row.finished_at is not None)
    return took[len(took) // 2] if took else None


def _in_turn(pools: list[str], kinds: tuple[Kind, ...]) -> Select[tuple[str, str]]:
    queued, running = _queued(pools, kinds), _running(pools)
    turn = queued.c.place + func.coalesce(running.c.count, 0)
    query = select(queued.c.id, queued.c.tenant)
    query = query.outerjoin(running, running.c.tenant == queued.c.tenant)
    query = query.outerjoin(tables.tenants, T.id == queued.c.tenant)
    order = (turn, func.coalesce(T.served, 0), queued.c.position, queued.c.created_at, queued.c.id)
    return query.order_by(*order)


def _queued(pools: list[str], kinds: tuple[Kind, ...]) -> Subquery:
    position = func.coalesce(J.position, 0)
    place = func.row_number().over(partition_by=J.tenant, order_by=(position, J.created_at, J.id))
    query = select(J.id, J.tenant, J.created_at, position.label("position"), place.label("place"))
    query = query.where(J.state == State.QUEUED.value, J.pool.in_(pools))
    if kinds:
        query = query.where(J.kind.in_([kind.value for kind in kinds]))
    return query.subquery()


def _running(pools: list[str]) -> Subquery:
    query = select(J.tenant, func.count().label("count")).where(J.state.in_(HELD), J.pool.in_(pools))
    return query.group_by(J.tenant).subquery()
