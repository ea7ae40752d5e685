"""Prometheus: counters of the process, gauges read from the database at each scrape."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client import multiprocess as several
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy import Row, func, select

from service.errors import ServiceError
from service.jobs.model import Kind, State
from service.process.supervision import FAULTS
from service.store import tables, tallies, workers
from service.store.db import Database, now
from service.wiring import Services

CONTENT_TYPE = CONTENT_TYPE_LATEST
_MULTI = "PROMETHEUS_MULTIPROC_DIR" in os.environ
_registry = CollectorRegistry() if not _MULTI else None
REQUESTS = Counter(
    "bnfold_http_requests", "Requests answered.", ["method", "route", "status"], registry=_registry
)
SECONDS = Histogram(
    "bnfold_http_request_seconds", "Time until the answer's headers.", ["route"], registry=_registry,
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)  # fmt: skip
BYTES = Counter("bnfold_http_bytes", "Body bytes.", ["direction"], registry=_registry)
FAILED_KEYS = Counter(
    "bnfold_failed_keys", "Requests with a key or token that was refused.", registry=_registry
)
# Counters of `service.store.tallies`: our name -> (name of the metric, help, labels).
TALLIES = {
    "ended": ("bnfold_jobs_ended", "Jobs that ended.", ["kind", "state", "verdict", "code"]),
    "cache_hits": ("bnfold_cache_hits", "Jobs answered from the cache.", ["kind"]),
    "findings": ("bnfold_health_findings", "Layers with a health finding.", ["code"]),
    "transitions": ("bnfold_transitions", "Changes of state; crash: a runner had to start again.", ["cause"]),
    "cost": ("bnfold_jobs_cost", "Milliseconds and bytes that jobs used.", ["what"]),
}


T = TypeVar("T")
_SHARE, _QUICK = 100.0, 0.2
_KEPT: WeakKeyDictionary[Database, dict[str, tuple[float, Any]]] = WeakKeyDictionary()


class DatabaseGauges:
    """Jobs by state, age of the oldest waiting one, live workers, stored bytes."""

    def __init__(self, ports: Services) -> None:
        self._ports = ports
        self._kept: dict[str, tuple[float, Any]] = _KEPT.setdefault(ports.db, {})

    def _seldom(self, name: str, ask: Callable[[], T]) -> T:
        """Ask what grows with the whole history no more often than for a hundredth of the time.

        Counting ten million rows takes seconds: at each scrape that would be the database's main work.
        """
        known: tuple[float, T] | None = self._kept.get(name)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        began = time.monotonic()
        found = ask()
        took = time.monotonic() - began
        self._kept[name] = (time.monotonic() + (_SHARE * took if took > _QUICK else 0.0), found)
        return found

    def collect(self) -> Iterator[Metric]:
        """One scrape; nothing when the database is away (`/readyz` says so)."""
        try:
            yield from self._jobs()
            yield from self.queues()
            yield from self._counters()
            yield from self._rest()
        except ServiceError:
            return

    def _jobs(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("bnfold_jobs", "Jobs in the table.", labels=["kind", "state", "pool"])
        counts = self._seldom("jobs", self._ports.jobs.counts)
        for labels, count in counts.items():
            jobs.add_metric(list(labels), count)
        yield jobs

    def queues(self) -> Iterator[Metric]:
        """What an autoscaler looks at: depth and age by pool and lane."""
        J = tables.jobs.c  # noqa: N806
        query = select(J.pool, J.kind, func.count().label("depth"), func.min(J.created_at).label("oldest"))
        query = query.where(J.state == State.QUEUED.value).group_by(J.pool, J.kind)
        depth = GaugeMetricFamily("bnfold_queue_depth", "Jobs that wait.", labels=["pool", "lane"])
        age = GaugeMetricFamily(
            "bnfold_queue_age_seconds", "Age of the oldest of them.", labels=["pool", "lane"]
        )
        with self._ports.db.read() as connection:
            found = {(row.pool, row.kind): row for row in connection.execute(query)}
        for pool in sorted({"cpu", *(pool for pool, _ in found)}):
            for kind in Kind:
                row = found.get((pool, kind.value))
                depth.add_metric([pool, kind.value], row.depth if row else 0)
                age.add_metric([pool, kind.value], max(0.0, now() - row.oldest) if row else 0.0)
        yield depth
        yield age

    def _counters(self) -> Iterator[Metric]:
        """Counters that workers keep in the database."""
        counts = tallies.read(self._ports.db)
        for name, (family, text, labels) in TALLIES.items():
            metric = CounterMetricFamily(family, text, labels=labels)
            for (kind, label), value in sorted(counts.items()):
                if kind == name:
                    metric.add_metric(label.split("/", len(labels) - 1), value)
            yield metric

    def _stored(self) -> int:
        query = select(func.coalesce(func.sum(tables.blobs.c.size), 0))
        with self._ports.db.read() as connection:
            return int(connection.execute(query).scalar_one())

    def _rest(self) -> Iterator[Metric]:
        J, D = tables.jobs.c, tables.deliveries.c  # noqa: N806
        with self._ports.db.read() as connection:
            oldest = connection.execute(
                select(func.min(J.created_at)).where(J.state == State.QUEUED.value)
            ).scalar()
            waiting = connection.execute(select(func.count()).where(D.state == "pending")).scalar_one()
        stored = self._seldom("stored", self._stored)
        live = workers.alive(self._ports.db, self._ports.settings)
        age = max(0.0, now() - oldest) if oldest is not None else 0.0
        yield GaugeMetricFamily("bnfold_oldest_queued_seconds", "Age of the oldest waiting job.", value=age)
        yield GaugeMetricFamily("bnfold_workers", "Workers heard of within a lease.", value=len(live))
        yield _internal_errors(live)
        slots = sum(row.slots for row in live)
        yield GaugeMetricFamily("bnfold_worker_slots", "Jobs that they run at a time.", value=slots)
        yield GaugeMetricFamily("bnfold_stored_bytes", "Bytes that tenants have stored.", value=float(stored))
        yield GaugeMetricFamily("bnfold_webhooks_pending", "Deliveries not made yet.", value=waiting)


def _internal_errors(live: Iterable[Row[Any]]) -> Metric:
    """Failures of long-lived threads: of this process, and of each live worker."""
    errors = CounterMetricFamily(
        "bnfold_internal_errors", "Failures of long-lived threads.", labels=["process", "where"]
    )
    found = {f"api:{os.getpid()}": dict(FAULTS.counts)}
    found |= {row.name: (row.status or {}).get("errors") or {} for row in live}
    for process, counts in found.items():
        for where, count in counts.items():
            errors.add_metric([process, where], count)
    return errors


def render(ports: Services) -> bytes:
    """The exposition."""
    scrape = CollectorRegistry()
    if _MULTI:
        several.MultiProcessCollector(scrape)  # type: ignore[no-untyped-call]
    scrape.register(DatabaseGauges(ports))
    own = generate_latest(_registry) if _registry is not None else b""
    return own + generate_latest(scrape)
