"""What the jail costs: `python -m tests.process.security.measure [--seconds 600] [--net NAME] [--bars]`.

Two bars: less than 50 ms a job, less than 3 % of folding and verification. Both are judged side by side:
a process without any bars and one in the jail do the same work in turns, in an order that a coin decides.

The cost of a job is wall time from `run()` to its return, for a job that does nothing in a process that
waits: one difference a round. Speed is folding and verification of one network, same seed, same niceness;
processor time of all threads, and wall time. Every process has its own luck with memory, and turns of one
process share it; so a round is new processes, its figure is one ratio (of the medians over its turns), and
the interval is taken over rounds, never over turns. A second process without bars takes part as a control:
what it seems to cost is what the machine's noise looks like.

Of the rounds' figures the median is taken, with its bootstrap interval (95 %), and the bar is

    shown      the whole interval is below it
    missed     the whole interval is above it
    undecided  neither: take more rounds, or a quieter machine

`--bars` measures every bar alone as well, to see which one costs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import queue
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.paired_timing import interval as bootstrap
from folding.progress import Event
from service.runner.base import JobOutcome, JobSpec
from service.runner.config import RunnerConfig
from service.runner.jail import bubblewrap
from service.runner.jail.sandbox import LAYERS
from service.runner.process import ProcessRunner
from tests.support.paths import ROOT

JOB_MILLISECONDS, SPEED_PERCENT = 50.0, 3.0
LEAST_ROUNDS = 8  # of fewer, the bootstrap knows nothing
TURNS = 8  # at least so many of each process in a round, after one that is not counted,
TURN_SECONDS = 20.0  # and as many as fit in this time for all processes together
ONNX_ONLY = ("numpy", "onnx", "onnx_ir", "onnxruntime", "folding.pipeline", "folding.verify")
BASE, CONTROL = "none", "control"
UNITS = {"job": "ms a job", "processor": "% of processor time", "wall": "% of wall time"}


@dataclass
class Figures:
    """One entry a round: milliseconds a job, and percent of processor and wall time."""

    job: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


class Process:
    """A process that folds and verifies on request; it stays the same for a whole round."""

    def __init__(self, each: ProcessRunner, model: Path, folder: Path) -> None:
        self._events: queue.Queue[Event | JobOutcome] = queue.Queue()
        self._number = 0
        self._each = each
        self._thread = threading.Thread(
            target=self._run, args=(JobSpec("m", "fold", model, folder),), daemon=True
        )
        self._thread.start()
        self._home = Path(self._next())

    def _run(self, spec: JobSpec) -> None:
        self._events.put(self._each.run(spec, on_event=self._events.put, cancel=threading.Event()))

    def _next(self) -> str:
        """The message of its next event. Raises RuntimeError when it ended instead."""
        event = self._events.get(timeout=600)
        if isinstance(event, JobOutcome):
            raise RuntimeError(f"a measured process ended: {event}")
        return event.message

    def turn(self) -> list[float]:
        """(processor, wall) seconds of one run."""
        self._say("run")
        self._number += 1
        spent: list[float] = json.loads(self._next())
        return spent

    def end(self) -> None:
        """Let it go."""
        self._say("end")
        self._thread.join()

    def _say(self, word: str) -> None:
        ready = self._home / "in" / "next"
        ready.write_text(word)
        ready.rename(self._home / "in" / f"word-{self._number}")


def runner(scratch: Path, **way: Any) -> ProcessRunner:
    """A pool of one; nothing is measured while a process is being warmed."""
    made = ProcessRunner(
        RunnerConfig(
            scratch=scratch, entry="tests.process.security.measure_job", read=(str(ROOT / "tests"),), nice=0,
            allow_unsandboxed=True, warm=ONNX_ONLY, **way,
        )
    )  # fmt: skip
    made.start()
    return made


def ways(*, each_bar: bool) -> dict[str, dict[str, Any]]:
    """Name -> the settings of its runner: `none`, its control, each level, and with `each_bar` each bar."""
    bare: dict[str, Any] = {"layers": (), "bubblewrap": False, "cgroup": False}
    found = {BASE: bare, CONTROL: bare, "strong": {"layers": LAYERS, "bubblewrap": False}}
    if bubblewrap.available():
        found["full"] = {"layers": LAYERS, "bubblewrap": True}
    if each_bar:
        found |= {layer: {**bare, "layers": (layer,)} for layer in LAYERS}
        found["cgroup"] = {**bare, "cgroup": True}
    return found


def runners(scratch: Path, *, each_bar: bool = False) -> dict[str, ProcessRunner]:
    """A runner for each of `ways` that this machine has."""
    made = {name: runner(scratch, **way) for name, way in ways(each_bar=each_bar).items()}
    for level in ("strong", "full"):
        if level in made and made[level].level() != level:
            print(f"{level}: not to be had here (a runner reports {made[level].level()})")
            made.pop(level).close()
    return made


def at_rest(made: dict[str, ProcessRunner]) -> None:
    """Until no process is being warmed."""
    while any(not each.idle() for each in made.values()):
        time.sleep(0.02)


def idle_job(each: ProcessRunner, model: Path, folder: Path) -> float:
    """Seconds of a job that does nothing, in a process that waits."""
    began = time.perf_counter()
    spec = JobSpec("m", "fold", model, folder, options={"idle": True})
    outcome = each.run(spec, on_event=lambda event: None, cancel=threading.Event())
    wall = time.perf_counter() - began
    assert outcome.report is not None, outcome
    return wall


def measured_round(
    made: dict[str, ProcessRunner], model: Path, folder: Path, coin: random.Random, *, seconds: float
) -> dict[str, dict[str, float]]:
    """One round: way -> its figures (keys of `UNITS`) against `none`."""
    at_rest(made)
    processes = {name: Process(made[name], model, folder) for name in shuffled(made, coin)}
    at_rest(made)
    for process in processes.values():
        process.turn()  # the first run of a process is like no other
    spent: dict[str, list[list[float]]] = {name: [] for name in made}
    until = time.monotonic() + seconds
    while len(spent[BASE]) < TURNS or time.monotonic() < until:
        for name in shuffled(made, coin):
            spent[name].append(processes[name].turn())
    for name in shuffled(made, coin):  # the order in which their successors are started, too
        processes[name].end()
    walls = {}
    for name in shuffled(made, coin):
        at_rest(made)
        walls[name] = idle_job(made[name], model, folder)
    middle = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in spent.items()
    }
    return {
        name: {
            "job": 1000 * (walls[name] - walls[BASE]),
            "processor": 100 * (middle[name][0] / middle[BASE][0] - 1),
            "wall": 100 * (middle[name][1] / middle[BASE][1] - 1),
        }
        for name in made
        if name != BASE
    }


def shuffled(made: dict[str, ProcessRunner], coin: random.Random) -> list[str]:
    """The names in an order of chance."""
    return coin.sample(sorted(made), len(made))


def interval(values: list[float]) -> tuple[float, float, float]:
    """Median of `values` and the bootstrap interval of it (percentiles 2.5 and 97.5)."""
    return statistics.median(values), *bootstrap(values, draws=4000)


def judged(found: tuple[float, float, float], bar: float) -> str:
    """shown, missed or undecided."""
    return "shown" if found[2] < bar else "missed" if found[1] > bar else "undecided"


def measure(
    made: dict[str, ProcessRunner], model: Path, folder: Path, seconds: float, *, turns: float = TURN_SECONDS
) -> dict[str, Figures]:
    """Rounds until the time is up, at least one, each with turns for `turns` seconds: way -> its figures."""
    coin = random.Random(5)
    found = {name: Figures() for name in made if name != BASE}
    until = time.monotonic() + seconds
    while True:
        for name, figures in measured_round(made, model, folder, coin, seconds=turns).items():
            for kind, value in figures.items():
                getattr(found[name], kind).append(value)
        if time.monotonic() >= until:
            return found


def line(way: str, kind: str, values: list[float]) -> str:
    """What is printed for one figure of one way."""
    middle, low, high = cost = interval(values)
    bar = JOB_MILLISECONDS if kind == "job" else SPEED_PERCENT
    word = judged(cost, bar) if len(values) >= LEAST_ROUNDS else "undecided"
    return (
        f"{way:10} {middle:+6.1f} {UNITS[kind]:20} [{low:+.1f}, {high:+.1f}], {len(values)} rounds; "
        f"less than {bar:g}: {word}"
    )


def main() -> None:
    """Print a line a figure and way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--net", default="inverted_residual", help="a builder of bench/nets.py")
    parser.add_argument("--bars", action="store_true", help="measure every bar alone as well")
    given = parser.parse_args()
    build: Callable[[Path], Any] = getattr(importlib.import_module("bench.nets"), given.net)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "model.onnx"
        build(model)
        made = runners(folder / "scratch", each_bar=given.bars)
        for way, figures in measure(made, model, folder, given.seconds).items():
            for kind in UNITS:
                print(line(way, kind, getattr(figures, kind)))
        for each in made.values():
            each.close()


if __name__ == "__main__":
    main()
