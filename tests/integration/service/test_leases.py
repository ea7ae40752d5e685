"""Leases and fencing: whoever lost the lease cannot write, and nothing is lost with a worker."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select, update

from folding.progress import Event
from service.errors import TooMany
from service.jobs import leases
from service.jobs.heartbeat import Heartbeat
from service.jobs.model import State
from service.runner.base import JobOutcome, JobSpec, OnEvent
from service.runner.memory import MemoryRunner
from service.store import tables
from service.store.blobs import put_bytes
from service.wiring import Services
from tests.support.deployment import eventually
from tests.support.in_process import open_services, orders, submit, worker


class Gate(MemoryRunner):
    """Waits inside `run` until it is told to go on, deaf to `cancel`: like a stopped process."""

    def __init__(self) -> None:
        self.inside, self.go = threading.Event(), threading.Event()

    def run(self, spec: JobSpec, *, on_event: OnEvent, cancel: threading.Event) -> JobOutcome:
        self.inside.set()
        assert self.go.wait(20)
        on_event(Event("late", 0.5))
        return super().run(spec, on_event=on_event, cancel=threading.Event())


def test_claims_of_many_workers_never_meet(services: Services) -> None:
    ids = [submit(services).job.id for _ in range(20)]
    workers = [worker(services, name=f"w{n}") for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda w: sum(w.run(job) for job in ids), workers))
    assert sum(done) == 20
    with services.db.read() as connection:
        rows = connection.execute(select(tables.jobs.c.state, tables.jobs.c.attempt)).all()
    assert {tuple(row) for row in rows} == {("succeeded", 1)}


def test_late_result_of_a_lost_attempt_is_refused(services: Services) -> None:
    job = submit(services).job
    gate = Gate()
    first = threading.Thread(target=worker(services, gate, "stopped").run, args=(job.id,))
    first.start()
    assert gate.inside.wait(10)
    time.sleep(1.2)  # past the lease of one second
    assert leases.reap(services.db, services.queue, services.settings) == 1
    assert worker(services, name="second").run(job.id)
    settled = services.jobs.get("default", job.id)
    gate.go.set()
    first.join(20)
    assert services.jobs.get("default", job.id) == settled
    assert (settled.state, settled.attempt, settled.lost_attempts) == (State.SUCCEEDED, 2, 1)
    stages = [row.data.get("stage") for row in services.jobs.events(job.id, 0)]
    assert "late" not in stages


def test_heartbeat_keeps_the_lease_and_passes_cancellation_on(services: Services) -> None:
    job = submit(services, orders(seconds=20)).job
    mine = worker(services)
    beat = Heartbeat(mine, services.changes)
    beat.start()
    thread = threading.Thread(target=mine.run, args=(job.id,))
    thread.start()
    eventually(lambda: services.jobs.get("default", job.id).state is State.RUNNING)
    time.sleep(1.5)
    assert leases.reap(services.db, services.queue, services.settings) == 0
    services.jobs.cancel("default", job.id)
    thread.join(3)
    beat.stop()
    assert services.jobs.get("default", job.id).state is State.CANCELLED


def test_lost_too_often_fails(tmp_path: Path) -> None:
    services = open_services(tmp_path, max_attempts=2)
    job = submit(services).job
    for _ in range(2):
        assert leases.claim(services.db, services.settings, job.id, "dies")
        with services.db.write() as connection:
            connection.execute(update(tables.jobs).values(lease_until=0.0))
        assert leases.reap(services.db, services.queue, services.settings) == 1
    failed = services.jobs.get("default", job.id)
    assert (failed.state, (failed.error or {})["code"], failed.attempt) == (State.FAILED, "lost_lease", 2)


def test_stopping_job_of_a_dead_worker_is_cancelled(services: Services) -> None:
    job = submit(services).job
    leases.claim(services.db, services.settings, job.id, "dies")
    assert services.jobs.cancel("default", job.id).state is State.STOPPING
    with services.db.write() as connection:
        connection.execute(update(tables.jobs).values(lease_until=0.0))
    leases.reap(services.db, services.queue, services.settings)
    assert services.jobs.get("default", job.id).state is State.CANCELLED


def test_shutdown_gives_the_job_back_without_blame(services: Services) -> None:
    job = submit(services, orders(seconds=20)).job
    mine = worker(services)
    thread = threading.Thread(target=mine.run, args=(job.id,))
    thread.start()
    attempt = eventually(lambda: mine.active.get(job.id))
    attempt.release = True
    attempt.cancel.set()
    thread.join(5)
    back = services.jobs.get("default", job.id)
    assert (back.state, back.lost_attempts, back.crashes) == (State.QUEUED, 0, 0)


def test_same_work_queued_twice_runs_once(services: Services) -> None:
    data = orders()
    one, two = submit(services, data).job, submit(services, data).job
    mine = worker(services)
    mine.run(one.id)
    mine.run(two.id)
    second = services.jobs.get("default", two.id)
    assert (second.state, second.cached_from) == (State.SUCCEEDED, one.id)


def test_running_quota_holds_a_tenant_back(tmp_path: Path) -> None:
    services = open_services(tmp_path, quota_running=1, quota_queued=3)
    ids = [submit(services).job.id for _ in range(3)]
    assert leases.claim(services.db, services.settings, ids[0], "w")
    assert leases.claim(services.db, services.settings, ids[1], "w") is None
    other = submit(services, tenant="other").job
    assert leases.claim(services.db, services.settings, other.id, "w")
    with pytest.raises(TooMany) as caught:
        submit(services)
    assert int(caught.value.headers["Retry-After"]) >= 1


def test_rotten_input_is_said(services: Services) -> None:
    job = submit(services).job
    path = services.blobs.path(job.input_digest)
    assert path is not None
    path.write_bytes(b"rot")
    worker(services).run(job.id)
    failed = services.jobs.get("default", job.id)
    assert (failed.state, (failed.error or {})["code"]) == (State.FAILED, "corrupt_blob")
    put_bytes(services.blobs, b"unrelated")


def test_hostile_names_in_progress_do_not_stop_the_job(services: Services) -> None:
    class Odd(MemoryRunner):
        def run(self, spec: JobSpec, *, on_event: OnEvent, cancel: threading.Event) -> JobOutcome:
            on_event(Event("find\x00" * 20, 0.1, "layer \x00\ud800\x1b[31m<script>"))
            return super().run(spec, on_event=on_event, cancel=cancel)

    job = submit(services).job
    worker(services, Odd()).run(job.id)
    assert services.jobs.get("default", job.id).state is State.SUCCEEDED
    messages = [row.data.get("message", "") for row in services.jobs.events(job.id, 0)]
    assert not any(sign in message for message in messages for sign in "\x00\x1b\ud800")
