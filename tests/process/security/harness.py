"""Runs hostile files through the whole pipeline in jailed processes, and tells how each one ended."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from folding.progress import Event
from service.runner.base import JobLimits, JobSpec, Status
from service.runner.children.launch import best_way, start_child
from service.runner.config import GIB, RunnerConfig
from service.runner.process import run_in
from tests.process.security.corpus import Case
from tests.support.paths import ROOT


@dataclass
class Ends:
    """Code by case (`crash:<class>` where the process died), the seconds of each, and the messages."""

    codes: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)


class _Follow:
    """Listens to one batch: notes results, and cancels it when a file takes too long."""

    def __init__(self, cases: Sequence[Case], ends: Ends, seconds: float) -> None:
        self.cases, self.ends, self.limit = cases, ends, seconds
        self.current = -1
        self.began = time.monotonic()
        self.cancel = threading.Event()
        self.over = False

    def __call__(self, event: Event) -> None:
        told = json.loads(event.message)
        name = self.cases[told[0]].name
        if event.stage == "begin":
            self.current, self.began = told[0], time.monotonic()
            return
        self.ends.codes[name] = told[1]
        self.ends.messages[name] = told[2]
        self.ends.classes[name] = told[3]
        self.ends.seconds[name] = time.monotonic() - self.began

    def watch(self) -> None:
        while not self.over:
            time.sleep(0.1)
            if self.current >= 0 and time.monotonic() - self.began > self.limit:
                self.cancel.set()


def run_all(cases: Sequence[Case], scratch: Path, *, corpus: Path, seconds: float = 20.0) -> Ends:
    """Every case, in as few jailed processes as crashes allow."""
    ends = Ends()
    config = RunnerConfig(
        scratch=scratch,
        entry="tests.process.security.batch",
        read=(str(ROOT / "tests"), str(corpus)),
        memory_bytes=3 * GIB,
    )
    wrapped, _ = best_way(config)
    start = 0
    while start < len(cases):
        start = _batch(cases, start, ends, config, wrapped, seconds)
    return ends


def _batch(
    cases: Sequence[Case], start: int, ends: Ends, config: RunnerConfig, wrapped: bool, seconds: float
) -> int:
    """Run from `start`; returns where to go on."""
    manifest = config.scratch / f"manifest-{start}.json"
    manifest.write_text(json.dumps([(i, str(cases[i].path)) for i in range(start, len(cases))]))
    follow = _Follow(cases, ends, seconds)
    child = start_child(config, wrapped=wrapped, modules=config.warm)
    guard = threading.Thread(target=follow.watch, daemon=True)
    try:
        child.wait_until_warm()
        guard.start()
        spec = JobSpec("batch", "fold", manifest, config.scratch, limits=JobLimits(wall_seconds=3600))
        outcome = run_in(child, spec, on_event=follow, cancel=follow.cancel, started=time.monotonic())
    finally:
        follow.over = True
        child.close()
    if outcome.status is Status.DONE:
        return len(cases)
    name = cases[max(follow.current, start)].name
    if follow.current < start or name in ends.codes:
        raise AssertionError(f"the batch ended between files: {outcome} {list(child.log)[-5:]}")
    crash = "timed_out" if outcome.status is Status.CANCELLED else outcome.crash
    ends.codes[name] = f"crash:{crash}"
    ends.seconds[name] = time.monotonic() - follow.began
    ends.messages[name] = " | ".join(list(child.log)[-3:])
    return follow.current + 1
