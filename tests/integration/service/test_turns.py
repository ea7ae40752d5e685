"""The order of the queue: tenants in turn, a lane for inspections, and no clock that could stall a job."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from service.app import create_app
from service.engine.embedded import EmbeddedConsumer
from service.engine.lanes import Lanes
from service.jobs import leases, turns
from service.jobs.heartbeat import Heartbeat
from service.jobs.model import Kind, State
from service.runner.base import JobOutcome, JobSpec, OnEvent
from service.runner.memory import MemoryRunner
from service.store import db as clocks
from service.store import tables, workers
from service.wiring import Services
from tests.support.deployment import eventually
from tests.support.in_process import TestClient, open_services, orders, submit, worker


class Recorder(MemoryRunner):
    """Writes down the order in which jobs ran; folds wait for `go`."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.go = threading.Event()

    def run(self, spec: JobSpec, *, on_event: OnEvent, cancel: threading.Event) -> JobOutcome:
        if spec.kind == "fold":
            assert self.go.wait(30)
        self.ran.append(spec.job_id)
        return super().run(spec, on_event=on_event, cancel=cancel)


def consume(services: Services, runner: MemoryRunner, until: Callable[[], bool]) -> None:
    """One slot, and one for inspections."""
    mine, stop = worker(services, runner), threading.Event()
    express = EmbeddedConsumer(mine, services.changes, 1, (Kind.INSPECT,))
    lanes = Lanes(EmbeddedConsumer(mine, services.changes, 1), express)
    thread = threading.Thread(target=lanes.serve, args=(stop,))
    thread.start()
    try:
        eventually(until, 60)
    finally:
        stop.set()
        thread.join(30)


def test_a_hundred_jobs_delay_anothers_single_job_by_one(services: Services) -> None:
    runner = Recorder()
    many = [submit(services, tenant="big").job.id for _ in range(100)]

    def release() -> bool:
        runner.go.set()
        return len(runner.ran) > 3

    stopped = threading.Event()

    def later() -> None:
        eventually(lambda: services.jobs.get("big", many[0]).state is State.RUNNING)
        singles.append(submit(services, tenant="small").job.id)
        runner.go.set()
        stopped.set()

    singles: list[str] = []
    thread = threading.Thread(target=later)
    thread.start()
    consume(services, runner, lambda: stopped.is_set() and len(runner.ran) > 3)
    thread.join()
    assert runner.ran[:2] == [many[0], singles[0]]


def test_tenants_take_turns_and_each_keeps_its_order(services: Services) -> None:
    jobs = {name: [submit(services, tenant=name).job.id for _ in range(3)] for name in ("a", "b", "c")}
    taken = []
    for _ in range(9):
        job_id = leases.next_queued(services.db, ["cpu"], 1)[0]
        assert worker(services).run(job_id)
        taken.append(job_id)
    assert taken == [jobs[name][turn] for turn in range(3) for name in ("a", "b", "c")]


def test_who_runs_less_is_next(services: Services) -> None:
    first = [submit(services, tenant="a").job.id for _ in range(4)]
    leases.claim(services.db, services.settings, first[0], "w")
    leases.claim(services.db, services.settings, first[1], "w")
    other = [submit(services, tenant="b").job.id for _ in range(2)]
    assert leases.next_queued(services.db, ["cpu"], 3) == [*other, first[2]]


def test_a_ticket_runs_its_own_job_unless_somebody_elses_turn_it_is(services: Services) -> None:
    """The engine on PostgreSQL delivers in order of submission."""
    big = [submit(services, tenant="big").job.id for _ in range(3)]
    assert leases.next_for_ticket(services.db, ["cpu"], big[1])[0] == big[1]
    assert worker(services).run(big[0])
    small = submit(services, tenant="small").job.id
    assert leases.next_for_ticket(services.db, ["cpu"], big[1])[0] == small
    assert worker(services).run(small)
    assert leases.next_for_ticket(services.db, ["cpu"], small)[0] == big[1]


def test_inspections_do_not_wait_behind_folds(services: Services) -> None:
    runner = Recorder()
    folds = [submit(services).job.id for _ in range(20)]
    inspections = [submit(services, kind=Kind.INSPECT).job.id for _ in range(5)]

    def inspected() -> bool:
        done = all(services.jobs.get("default", job).done for job in inspections)
        if done:
            assert not any(services.jobs.get("default", job).done for job in folds)
            runner.go.set()
        return done

    consume(services, runner, inspected)


def test_a_failing_lane_is_served_again() -> None:
    stop, tried = threading.Event(), []

    class Main:
        def serve(self, stop: threading.Event) -> None:
            stop.wait(20)

    class Express:
        def serve(self, stop: threading.Event) -> None:
            tried.append(1)
            if len(tried) == 1:
                raise OSError("no descriptor")
            stop.set()

    Lanes(Main(), Express()).serve(stop)
    assert len(tried) == 2


class TestPlace:
    def test_position_and_estimate(self, tmp_path: Path) -> None:
        services = open_services(tmp_path, lease=120.0)
        workers.report(services.db, services.settings, "w1", "full")
        done = submit(services).job
        worker(services).run(done.id)
        with services.db.write() as connection:
            connection.execute(update(tables.jobs).values(started_at=100.0, finished_at=110.0))
        slots = services.settings.slots
        waiting = [submit(services).job.id for _ in range(3 * slots)]
        with TestClient(create_app(services=services), base_url="http://localhost") as client:
            places = [client.get(f"/v1/jobs/{job}").json()["queue"] for job in waiting]
            assert [place["position"] for place in places] == list(range(1, 3 * slots + 1))
            assert places[0]["estimate_seconds"] == 10.0
            assert places[-1]["estimate_seconds"] == 30.0
            assert client.get(f"/v1/jobs/{done.id}").json()["queue"] is None
            only = submit(services, tenant="other").job
            found = services.jobs.place(services.jobs.get("other", only.id))
            assert found is not None
            assert found.position <= 2

    def test_without_workers_there_is_no_estimate(self, services: Services) -> None:
        found = services.jobs.place(submit(services).job)
        assert found == turns.Place(1, None)


class TestClock:
    """The clock is set back by an hour."""

    @pytest.fixture
    def set_back(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
        real = time.time

        def do() -> None:
            monkeypatch.setattr(clocks.time, "time", lambda: real() - 3600)

        return do

    def test_older_jobs_are_not_stalled(self, services: Services, set_back: Callable[[], None]) -> None:
        older = submit(services).job.id
        set_back()
        newer = submit(services).job.id
        assert leases.next_queued(services.db, ["cpu"], 2) == [older, newer]

    def test_a_job_that_was_put_off(self, services: Services, set_back: Callable[[], None]) -> None:
        job = submit(services).job.id
        with services.db.write() as connection:
            connection.execute(update(tables.jobs).values(not_before=clocks.now() + 60))
        assert leases.next_queued(services.db, ["cpu"]) == []
        set_back()
        assert leases.next_queued(services.db, ["cpu"]) == [job]

    def test_a_lost_worker_is_noticed_and_a_live_one_kept(
        self, tmp_path: Path, set_back: Callable[[], None]
    ) -> None:
        services = open_services(tmp_path, lease=1.0)
        dead = submit(services).job.id
        assert leases.claim(services.db, services.settings, dead, "dies")
        alive = submit(services, orders(seconds=60)).job.id
        mine = worker(services)
        beat = Heartbeat(mine, services.changes)
        beat.start()
        thread = threading.Thread(target=mine.run, args=(alive,))
        thread.start()
        eventually(lambda: services.jobs.get("default", alive).state is State.RUNNING)
        set_back()
        eventually(lambda: leases.reap(services.db, services.queue, services.settings), 20)
        assert services.jobs.get("default", dead).state is State.QUEUED
        assert services.jobs.get("default", alive).state is State.RUNNING
        services.jobs.cancel("default", alive)
        thread.join(20)
        beat.stop()

    def test_a_worker_that_is_gone_is_not_called_alive(
        self, services: Services, set_back: Callable[[], None]
    ) -> None:
        workers.report(services.db, services.settings, "gone", "full")
        set_back()
        assert workers.alive(services.db, services.settings) == []


def test_claims_do_not_grow_with_the_queue(services: Services) -> None:
    """The query reads an index: rows of each tenant's head, whatever waits behind them."""
    first = [submit(services, tenant=tenant).job.id for tenant in ("a", "b")]
    with services.db.write() as connection:
        found = connection.execute(select(tables.jobs).where(tables.jobs.c.id == first[0])).one()._mapping
        row = {column.key: found[column] for column in tables.jobs.c}
        rows = [row | {"id": f"job_{n:08}", "position": 10 + n, "tenant": "a"} for n in range(20_000)]
        connection.execute(insert(tables.jobs), rows)
    steps: list[int] = []
    with services.db.read() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.set_progress_handler(lambda: steps.append(1) and None, 1000)
        assert [name for name, _ in turns.next_among(connection, ["cpu"], 8)[:2]] == first
        raw.set_progress_handler(None, 0)
    assert len(steps) < 20, "thousands of steps of SQLite's machine"


def test_only_changes_of_interest_wake(services: Services) -> None:
    changes = services.changes
    queued, mine = (changes.cursor(interest) for interest in (
        lambda word: word.startswith(clocks.QUEUED), lambda word: word == "job_1"
    ))  # fmt: skip
    for word in ("job_2", clocks.PROGRESS + "job_1"):
        changes.wake(word)
    assert not queued.wait(0.0)
    assert not mine.wait(0.0)
    changes.wake("job_1")
    assert (queued.wait(0.0), mine.wait(0.0)) == (False, True)
    changes.wake(clocks.QUEUED + "job_3")
    assert (queued.wait(0.0), mine.wait(0.0)) == (True, False)
    changes.wake()  # nobody knows what: everybody looks
    assert (queued.wait(0.0), mine.wait(0.0)) == (True, True)
