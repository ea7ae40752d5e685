"""Full disks, no descriptors, no memory, no threads: nothing ends for good, no job is lost or `internal`."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from folding.errors import BnfoldError, CorruptModel
from folding.verify.providers.failures import DeviceLost
from service.engine import embedded
from service.engine.embedded import EmbeddedQueue
from service.errors import StorageFull, Unavailable
from service.jobs import worker as worker_module
from service.jobs.model import State
from service.jobs.worker import cpu_budget
from service.process.machine_faults import as_machine_fault
from service.process.supervision import FAULTS, Faults, start_thread
from service.runner import job as runner_job
from service.runner import process
from service.runner.base import Crash, JobOutcome, JobSpec, OnEvent, Status
from service.runner.files import scratch
from service.runner.memory import MemoryRunner
from service.runner.process import ProcessRunner
from service.settings import Settings
from service.wiring import Services
from tests.process.security.conftest import configured, run_act
from tests.support.deployment import eventually
from tests.support.in_process import settings, submit, worker
from tests.support.paths import ROOT

ERRORS = ["ENOSPC", "EIO", "EDQUOT", "EMFILE", "ENFILE", "ENOMEM", "EAGAIN"]
STORAGE = {"ENOSPC", "EIO", "EDQUOT"}


def failure(name: str) -> OSError:
    number = getattr(errno, name)
    return OSError(number, os.strerror(number))


def code_of(name: str) -> str:
    return "storage_full" if name in STORAGE else "machine_exhausted"


@pytest.fixture
def runner(tmp_path: Path) -> Any:
    made = ProcessRunner(configured(tmp_path / "scratch"))
    made.start()
    eventually(made.idle, 60, "a warm process")
    yield made
    made.close()


# --- what is a fault of the machine ---------------------------------------------------------------


@pytest.mark.parametrize("name", ERRORS)
def test_the_errors_of_the_machine_are_known_however_deep(name: str) -> None:
    wrapped = CorruptModel("The file cannot be read.")
    wrapped.__cause__ = failure(name)
    for error in (failure(name), wrapped):
        fault = as_machine_fault(error, "a test")
        assert fault is not None
        assert fault.error_code == code_of(name)


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "no"), ValueError("x"), RuntimeError("x"), CorruptModel("x")]
)
def test_other_errors_are_not(error: Exception) -> None:
    assert as_machine_fault(error, "a test") is None


def test_no_thread_and_no_memory_are() -> None:
    for error in (RuntimeError("can't start new thread"), MemoryError()):
        assert isinstance(as_machine_fault(error, "a test"), Unavailable)


# --- the runner -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ENOSPC", "EMFILE"])
def test_a_fault_while_warming_does_not_stop_later_jobs(
    runner: ProcessRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """S1: one full disk, and every later job hung for ever."""
    real = scratch.make
    broken = threading.Event()
    broken.set()

    def make(place: Path, kind: str) -> scratch.Held:
        if broken.is_set():
            raise failure(name)
        return real(place, kind)

    monkeypatch.setattr("service.runner.children.launch.scratch.make", make)
    assert run_act(runner, tmp_path, "succeed").status is Status.DONE  # the one that was warm already
    began = time.monotonic()
    for _ in range(3):
        outcome = run_act(runner, tmp_path, "succeed")
        assert (outcome.status, outcome.crash) == (Status.CRASHED, Crash.START)
        assert (outcome.error or {})["code"] == code_of(name)
    assert time.monotonic() - began < 30
    assert "runner-warm" in FAULTS.current()
    broken.clear()
    assert run_act(runner, tmp_path, "succeed").status is Status.DONE
    eventually(runner.idle, 60, "it warms again by itself")
    assert "runner-warm" not in FAULTS.current()


def test_no_thread_for_warming_does_no_harm(
    runner: ProcessRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **named: object) -> threading.Thread:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(process.threading, "Thread", refuse)
    for _ in range(2):
        assert run_act(runner, tmp_path, "succeed").status is Status.DONE


def test_a_job_that_waits_for_its_process_can_be_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S8: also while the process starts."""
    waits = ProcessRunner(configured(tmp_path / "scratch"))
    cancel = threading.Event()
    child = process.start_child

    def slow(*args: Any, **named: Any) -> Any:
        made = child(*args, **named)
        monkeypatch.setattr(made, "poll", lambda seconds: time.sleep(seconds) or iter(()))
        return made

    monkeypatch.setattr(process, "start_child", slow)
    threading.Timer(3.0, cancel.set).start()
    outcome = run_act(waits, tmp_path, "succeed", cancel=cancel)
    ended = time.monotonic()
    waits.close()
    assert outcome.status is Status.CANCELLED
    assert time.monotonic() - ended < 2


@pytest.mark.parametrize("name", ["ENOSPC", "EMFILE", "ENOMEM"])
def test_results_that_cannot_be_taken_out_are_tried_again(
    runner: ProcessRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def refuse(folder: Path, into: Path) -> dict[str, Path]:
        raise failure(name)

    monkeypatch.setattr(process, "take_out", refuse)
    outcome = run_act(runner, tmp_path, "succeed")
    assert (outcome.crash, (outcome.error or {})["code"]) == (Crash.START, code_of(name))


class _Channel:
    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def send(self, **message: Any) -> None:
        self.messages.append(message)


def _numpy_on_a_full_disk() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this machine has no /dev/full")
    with Path("/dev/full").open("wb") as file:
        np.zeros(1 << 20).tofile(file)


def _raises(error: Exception) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize(
    "act",
    [
        _raises(failure("ENOSPC")),
        _raises(failure("EIO")),
        _raises(RuntimeError("RESOURCE_EXHAUSTED: /x: No space left on device [Op:SaveV2]")),
        _numpy_on_a_full_disk,
    ],
)
def test_a_disk_that_is_full_inside_a_job_is_no_defect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]
) -> None:
    """S3: it was `internal`."""
    monkeypatch.setattr(runner_job, "dispatch", lambda job, channel: act())
    channel = _Channel()
    runner_job.run_job({"input": str(tmp_path / "m"), "folder": str(tmp_path)}, channel)
    assert channel.messages[-1]["error"]["code"] == "storage_full"


# --- the worker -----------------------------------------------------------------------------------


class _Unlucky(MemoryRunner):
    """Cannot start a process for as long as `fault` says so."""

    fault: BnfoldError | None = None

    def run(self, spec: JobSpec, *, on_event: OnEvent, cancel: threading.Event) -> JobOutcome:
        if self.fault is not None:
            return JobOutcome(Status.CRASHED, crash=Crash.START, error=self.fault.to_dict())
        return super().run(spec, on_event=on_event, cancel=cancel)


def _ready(services: Services, job_id: str) -> None:
    """Let the time pass until the job may run again."""
    from sqlalchemy import update

    from service.store import tables

    with services.db.write() as connection:
        connection.execute(update(tables.jobs).where(tables.jobs.c.id == job_id).values(not_before=0.0))


@pytest.mark.parametrize("fault", [StorageFull("full"), Unavailable("none", code="machine_exhausted")])
def test_a_job_waits_for_as_long_as_the_machine_is_at_fault(services: Services, fault: BnfoldError) -> None:
    runner = _Unlucky()
    runner.fault = fault
    job, mine = submit(services).job, worker(services, runner)
    for _ in range(6):  # more often than a job may lose its worker, or crash
        _ready(services, job.id)
        assert mine.run(job.id)
        waits = services.jobs.get("default", job.id)
        assert (waits.state, waits.lost_attempts, waits.crashes) == (State.QUEUED, 0, 0)
        assert waits.message == fault.message
    runner.fault = None
    _ready(services, job.id)
    mine.run(job.id)
    assert services.jobs.get("default", job.id).state is State.SUCCEEDED


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("where", ["mkdir", "fetch", "store"])
def test_a_fault_around_the_job_is_no_defect(
    services: Services, monkeypatch: pytest.MonkeyPatch, where: str, name: str
) -> None:
    def refuse(*args: object, **named: object) -> None:
        raise failure(name)

    job, mine = submit(services).job, worker(services)
    with monkeypatch.context() as patch:
        if where == "mkdir":
            patch.setattr(worker_module.Path, "mkdir", refuse)
        elif where == "fetch":
            patch.setattr(worker_module, "fetch", refuse)
        else:
            patch.setattr(worker_module.results, "store", refuse)
        mine.run(job.id)
    assert services.jobs.get("default", job.id).state is State.QUEUED
    _ready(services, job.id)
    mine.run(job.id)
    assert services.jobs.get("default", job.id).state is State.SUCCEEDED


def test_a_job_that_fills_the_disk_itself_ends(services: Services) -> None:
    class Filling(MemoryRunner):
        def run(self, spec: JobSpec, *, on_event: OnEvent, cancel: threading.Event) -> JobOutcome:
            return JobOutcome(Status.ERROR, error=StorageFull("It wrote too much.").to_dict())

    job, mine = submit(services).job, worker(services, Filling())
    for _ in range(services.settings.max_attempts):
        _ready(services, job.id)
        mine.run(job.id)
    failed = services.jobs.get("default", job.id)
    assert (failed.state, (failed.error or {})["code"]) == (State.FAILED, "storage_full")


def test_a_lost_device_is_tried_once_more(services: Services) -> None:
    class Losing(MemoryRunner):
        tries, failing = 0, 1

        def run(self, spec: JobSpec, *, on_event: OnEvent, cancel: threading.Event) -> JobOutcome:
            self.tries += 1
            if self.tries <= self.failing:
                return JobOutcome(Status.ERROR, error=DeviceLost("The device failed.").to_dict())
            return super().run(spec, on_event=on_event, cancel=cancel)

    for failing, ended in ((1, State.SUCCEEDED), (9, State.FAILED)):
        runner, job = Losing(), submit(services).job
        runner.failing = failing
        mine = worker(services, runner)
        for _ in range(3):
            _ready(services, job.id)
            mine.run(job.id)
        done = services.jobs.get("default", job.id)
        assert (done.state, runner.tries) == (ended, 2)
    assert (done.error or {})["code"] == "device_lost"


def test_progress_that_floods_makes_few_rows(services: Services) -> None:
    class Talking(MemoryRunner):
        def run(self, spec: JobSpec, *, on_event: OnEvent, cancel: threading.Event) -> JobOutcome:
            from folding.progress import Event

            for index in range(2000):
                on_event(Event(f"stage-{index}", 0.5, "x"))
            return super().run(spec, on_event=on_event, cancel=cancel)

    job = submit(services).job
    worker(services, Talking()).run(job.id)
    done = services.jobs.get("default", job.id)
    assert done.state is State.SUCCEEDED
    assert done.event_seq < 1000


def test_the_processor_budget_grows_with_the_input(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"x")
    large.touch()
    os.truncate(large, 100 << 20)
    chosen = settings(tmp_path, job_cpu_seconds=60, job_cpu_seconds_per_mib=2)
    ratio = cpu_budget(chosen, [large]) / cpu_budget(chosen, [small])
    assert ratio == pytest.approx((60 + 200) / 60, rel=0.02)
    assert cpu_budget(settings(tmp_path, job_cpu_seconds=0), [large]) == 0


# --- threads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["EMFILE", "EAGAIN", "ENOMEM", "ENOSPC"])
def test_the_guard_outlives_what_it_cannot_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """S2: it died for good, and the service with it at the supervisor's next end."""
    tries: list[float] = []
    program = "import sys; sys.stdin.read()"

    def spawn(_: Settings) -> subprocess.Popen[bytes]:
        tries.append(time.monotonic())
        if len(tries) < 4:
            raise failure(name)
        return subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)

    queue = EmbeddedQueue(settings(tmp_path, spawn_supervisor=True), spawn)
    before = FAULTS.counts["guard"]
    queue.start()
    try:
        eventually(lambda: len(tries) >= 2, 20, "a second try")
        assert "guard" in FAULTS.current()
        assert "no supervisor is running: " in queue.health()["detail"]
        eventually(lambda: queue.supervisor is not None, 20, "a supervisor in the end")
        assert FAULTS.counts["guard"] - before == 3
        eventually(lambda: "guard" not in FAULTS.current(), 20, "all is well again")
    finally:
        queue.stop()


def test_health_says_so_when_it_cannot_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> bool:
        raise failure("EMFILE")

    monkeypatch.setattr(embedded.Lock, "acquire", refuse)
    found = EmbeddedQueue(settings(tmp_path)).health()
    assert found["ok"] is False
    assert "open files" in found["detail"]


def test_a_supervised_thread_is_tried_again_with_pauses() -> None:
    faults, stop, calls = Faults(), threading.Event(), []

    def work() -> None:
        calls.append(time.monotonic())
        if len(calls) < 3:
            raise MemoryError
        stop.wait()

    thread = start_thread("test", work, stop, faults)
    eventually(lambda: len(calls) == 3, 20, "three tries")
    assert faults.counts["test"] == 2
    assert faults.current() == {"test": "MemoryError"}
    assert calls[2] - calls[1] > calls[1] - calls[0]
    stop.set()
    thread.join(5)
    assert not thread.is_alive()


# --- what is left behind --------------------------------------------------------------------------

HOLDING = """
import sys, time
from pathlib import Path
from service.runner.files import scratch
made = scratch.make(Path(sys.argv[1]), "runner")
(made.path / "model").write_bytes(b"secret")
print(made.path, flush=True)
time.sleep(600)
"""


def test_a_place_that_is_not_there_yet_has_nothing_to_sweep(tmp_path: Path) -> None:
    assert scratch.sweep(tmp_path / "scratch") == 0


def test_folders_of_a_killed_process_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S7: each had the model in it, for ever."""
    monkeypatch.setattr(scratch, "YOUNG_SECONDS", 0.0)
    mine = scratch.make(tmp_path, "runner")
    strange = tmp_path / "runner"
    strange.mkdir()
    abandoned = tmp_path / "job_01ARZ3NDEKTSV4RRFFQ69G5FAV-2"
    (abandoned / "in").mkdir(parents=True)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert holder.stdout is not None
    other = Path(holder.stdout.readline().strip())
    assert scratch.sweep(tmp_path) == 1
    assert not abandoned.exists()
    assert other.exists()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    assert scratch.sweep(tmp_path) == 1
    assert {path.name for path in tmp_path.iterdir()} == {mine.path.name, "runner"}
    mine.remove()
    assert not mine.path.exists()


def test_an_attempts_folder_is_held_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "YOUNG_SECONDS", 0.0)
    from tests.support.in_process import open_services

    found: list[int] = []

    class Looking(MemoryRunner):
        def run(self, spec: JobSpec, *, on_event: OnEvent, cancel: threading.Event) -> JobOutcome:
            found.append(scratch.sweep(spec.out_dir.parents[1]))
            return super().run(spec, on_event=on_event, cancel=cancel)

    services = open_services(tmp_path)
    job = submit(services).job
    worker(services, Looking()).run(job.id)
    assert found == [0]
    assert services.jobs.get("default", job.id).state is State.SUCCEEDED
    assert list(services.settings.scratch.iterdir()) == []
    services.close()


# --- what is told -----------------------------------------------------------------------------------


def test_what_is_wrong_on_workers_is_told(services: Services) -> None:
    """A pool that is not offered, and a thread that fails: in /readyz, capabilities, metrics."""
    from service.api.metrics import render
    from service.api.routes.system import look
    from service.store import workers

    status = {
        "pools": {"cuda": "cuInit returned 304"},
        "faults": {"guard": "OSError"},
        "errors": {"guard": 7},
    }
    workers.report(services.db, services.settings, "w1", "strong", ["cpu"], status)
    found = look(services)
    assert found.checks["pool cuda"].detail == "cuInit returned 304"
    assert not found.checks["pool cuda"].ok
    assert "w1 guard: OSError" in found.checks["threads"].detail
    assert 'bnfold_internal_errors_total{process="w1",where="guard"} 7.0' in render(services).decode()
    services.settings.pools = ["cpu", "cuda"]
    assert not services.jobs.offers("cuda")
    workers.report(services.db, services.settings, "w2", "strong", ["cpu", "cuda"], {})
    assert services.jobs.offers("cuda")
    assert "pool cuda" not in look(services).checks
