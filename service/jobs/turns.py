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
from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    Subquery,
    func,
    or_,
    select,
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
    """Return (id, tenant) of jobs that may be claimed, in turn; `kinds` empty: all."""
    with db.read() as connection:
        rows = connection.execute(_in_turn(pools, kinds).limit(limit)).all()
    return [(row.id, row.tenant) for row in rows]


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
        ids = [row.id for row in connection.execute(_in_turn([job.pool], kinds, ready=False))]
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
    )
    rows = connection.execute(query.order_by(J.created_at.desc()).limit(_SAMPLE)).all()
    took = sorted(max(0.0, row.finished_at - row.started_at) for row in rows if row.finished_at is not None)
    return took[len(took) // 2] if took else None


def _in_turn(pools: list[str], kinds: tuple[Kind, ...], *, ready: bool = True) -> Select[tuple[str, str]]:
    queued, running = _queued(pools, kinds, ready), _running(pools)
    turn = queued.c.place + func.coalesce(running.c.count, 0)
    query = select(queued.c.id, queued.c.tenant)
    query = query.outerjoin(running, running.c.tenant == queued.c.tenant)
    query = query.outerjoin(tables.tenants, T.id == queued.c.tenant)
    order = (turn, func.coalesce(T.served, 0), queued.c.position, queued.c.created_at, queued.c.id)
    return query.order_by(*order)


def _queued(pools: list[str], kinds: tuple[Kind, ...], ready: bool) -> Subquery:
    position = func.coalesce(J.position, 0)
    place = func.row_number().over(partition_by=J.tenant, order_by=(position, J.created_at, J.id))
    query = select(J.id, J.tenant, J.created_at, position.label("position"), place.label("place"))
    query = query.where(J.state == State.QUEUED.value, J.pool.in_(pools))
    if ready:
        query = query.where(or_(J.not_before <= now(), J.not_before > now() + LONGEST_DELAY))
    if kinds:
        query = query.where(J.kind.in_([kind.value for kind in kinds]))
    return query.subquery()


def _running(pools: list[str]) -> Subquery:
    query = select(J.tenant, func.count().label("count")).where(J.state.in_(HELD), J.pool.in_(pools))
    return query.group_by(J.tenant).subquery()
