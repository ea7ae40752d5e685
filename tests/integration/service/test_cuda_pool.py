"""Jobs that require CUDA, on both engines, with a fake device: routed, verified, and shown beside the CPU.

The device answers like the CPU. Everything else is the product's: the API's options, the pool's runner, the
queue, the worker, the verification, the report and its page.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from folding import pipeline
from folding.errors import BnfoldError
from folding.options import FoldOptions
from folding.verify import providers
from folding.verify.providers import Cpu, Cuda, latency
from service.app import create_app
from service.engine.procrastinate import ProcrastinateConsumer
from service.jobs.model import Job, State
from service.jobs.worker import Worker
from service.runner.base import JobOutcome, JobSpec, OnEvent, Status
from service.runner.device_check import DeviceState
from service.runner.pools import PoolRunner
from service.settings import Settings
from service.store import workers
from service.wiring import Services, build
from tests.support.in_process import TestClient, settings, submit, worker
from tests.support.service_fixtures import settings_of
from tests.unit.folding.verify import nets
from tests.unit.folding.verify.test_providers import RECORDED, FakeSession

OPTIONS = FoldOptions(providers=["cpu", "cuda"], require=["cuda"], latency=True)


class HereRunner:
    """Folds in the worker's own thread; remembers the pools of its jobs."""

    def __init__(self) -> None:
        self.pools: list[str] = []

    def start(self) -> None:
        """Nothing to warm."""

    def level(self) -> str:
        return "none"

    def close(self) -> None:
        """Nothing to close."""

    def run(self, spec: JobSpec, *, on_event: OnEvent, cancel: threading.Event) -> JobOutcome:
        self.pools.append(spec.pool)
        out = spec.out_dir / "model.onnx"
        try:
            report = pipeline.fold(spec.input, out, FoldOptions.model_validate(spec.options))
        except BnfoldError as error:
            return JobOutcome(Status.ERROR, error=error.to_dict())
        (spec.out_dir / "report.json").write_text(report.to_json())
        return JobOutcome(Status.DONE, report=spec.out_dir / "report.json", artifact=out)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake CUDA provider, which each thread finds."""
    FakeSession.opened, FakeSession.started, FakeSession.gain = [], True, {}
    FakeSession.jitter, FakeSession.says = False, ""
    monkeypatch.setattr(latency, "SECONDS", 0.0)
    found = {"cpu": Cpu(), "cuda": Cuda(lambda: RECORDED, FakeSession)}
    monkeypatch.setattr(providers, "find", found.__getitem__)


def pool_worker(services: Services, here: HereRunner, state: DeviceState) -> Worker:
    runner = PoolRunner({"cpu": here, "cuda": here}, {"cuda": lambda: state})
    runner.start()
    return worker(services, runner)


@contextmanager
def consuming(made: Worker, services: Services) -> Iterator[None]:
    """Have the worker take tasks of the engine, in a thread."""
    stop = threading.Event()
    consumer = ProcrastinateConsumer(made, services.db)
    thread = threading.Thread(target=consumer.serve, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def of_kind(kind: str, folder: Path, request: pytest.FixtureRequest) -> Settings:
    """Settings of an engine with both pools."""
    variables = settings_of(kind, request)
    named = {name.removeprefix("BNFOLD_").lower(): value for name, value in variables.items()}
    return settings(folder, pools=["cpu", "cuda"], **named)


def model(folder: Path) -> bytes:
    return nets.build("plain", folder, 1).unfolded.read_bytes()


def run_to_end(services: Services, made: Worker, job: str) -> Job:
    """Run the job as its engine does, and return it."""
    if services.settings.engine == "embedded":
        assert made.run(job)
        return services.jobs.get("default", job)
    with consuming(made, services):
        return wait_for_end(services, job)


def wait_for_end(services: Services, job: str) -> Job:
    pause = threading.Event()
    for _ in range(1200):
        found = services.jobs.get("default", job)
        if found.done:
            return found
        pause.wait(0.1)
    raise AssertionError(f"job {job} is {found.state}")


@pytest.mark.parametrize("kind", ["embedded", "procrastinate"])
def test_a_job_that_requires_cuda_runs_in_its_pool(
    kind: str, tmp_path: Path, device: None, request: pytest.FixtureRequest
) -> None:
    services = build(of_kind(kind, tmp_path / "data", request))
    here = HereRunner()
    made = pool_worker(services, here, DeviceState(True))
    job = submit(services, model(tmp_path), options=OPTIONS).job
    done = run_to_end(services, made, job.id)
    assert (done.state, done.pool, here.pools) == (State.SUCCEEDED, "cuda", ["cuda"]), done.error
    page = shown(services, job.id)
    rows = re.findall(r'>(cpu|cuda|cuda tf32) <span class="faint">([a-z ]+)</span>', page)
    for provider in ("cpu", "cuda", "cuda tf32"):
        assert {(provider, "disable all"), (provider, "enable all")} <= set(rows)
    assert {"cpu", "cuda"} <= set(re.findall(r"</code></th><td>(\w+)</td>", page))  # drift by layer
    for rows in (1, 8, 32):
        assert f"batch {rows}" in page


@pytest.mark.parametrize("kind", ["embedded", "procrastinate"])
def test_without_a_device_the_job_runs_on_the_cpu_and_is_not_passed(
    kind: str, tmp_path: Path, device: None, request: pytest.FixtureRequest
) -> None:
    services = build(of_kind(kind, tmp_path / "data", request))
    FakeSession.started = False
    here = HereRunner()
    made = pool_worker(services, here, DeviceState(False, "cuInit returned 304"))
    workers.report(services.db, services.settings, made.name, "none", made.pools(), made.status())
    job = submit(services, model(tmp_path), options=OPTIONS).job
    done = run_to_end(services, made, job.id)
    assert (done.state, done.pool, here.pools) == (State.REJECTED, "cpu", ["cpu"])
    assert "unavailable" in shown(services, job.id)


def shown(services: Services, job: str) -> str:
    """Return the page of a job."""
    with TestClient(create_app(services=services), base_url="http://localhost") as client:
        answer: Any = client.get(f"/jobs/{job}")
        assert answer.status_code == 200
        return str(answer.text)
