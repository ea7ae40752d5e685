"""A runner whose jobs are the misbehaviours of `misbehave`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from folding.progress import Event
from service.runner.base import JobLimits, JobOutcome, JobSpec
from service.runner.config import RunnerConfig
from service.runner.process import ProcessRunner
from tests.support.paths import ROOT

MIB = 1 << 20
Run = Callable[..., JobOutcome]


def configured(scratch: Path, **changes: Any) -> RunnerConfig:
    """Nothing warm, 512 MiB, and the tests' own folder readable."""
    defaults: dict[str, Any] = {
        "scratch": scratch, "warm": (), "entry": "tests.process.security.misbehave",
        "read": (str(ROOT / "tests"),),
        "memory_bytes": 512 * MIB, "start_seconds": 30.0, "bubblewrap": False,
    }  # fmt: skip
    return RunnerConfig(**{**defaults, **changes})


def run_act(
    runner: ProcessRunner,
    folder: Path,
    act: str,
    *,
    limits: JobLimits | None = None,
    cancel: threading.Event | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
    probe: Path | None = None,
) -> JobOutcome:
    """One job that does `act`."""
    source = folder / "act.txt"
    source.write_text(act)
    out = folder / "out"
    out.mkdir(exist_ok=True)
    spec = JobSpec(act, "fold", source, out, probe=probe, limits=limits or JobLimits(wall_seconds=90))
    return runner.run(spec, on_event=on_event, cancel=cancel or threading.Event())


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessRunner]:
    """Started once; each job gets a process of its own anyway."""
    made = ProcessRunner(configured(tmp_path_factory.mktemp("scratch")))
    made.start()
    yield made
    made.close()


@pytest.fixture
def run(runner: ProcessRunner, tmp_path: Path) -> Run:
    """`run(act, ...)` in a fresh folder."""
    return lambda act, **more: run_act(runner, tmp_path, act, **more)
