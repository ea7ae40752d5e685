"""What the jail costs: `python -m tests.security.measure [--seconds 600] [--net NAME]`.

Two bars: less than 50 ms a job, less than 3 % of folding and verification. Both are judged by pairs: one job
in the jail and one without any bars, right after each other, in an order that a coin decides. A pair shares
the machine's mood, so its difference (or ratio) is worth more than the difference of two averages. Of those
the median is taken, with its bootstrap interval (95 %), and the bar is

    shown      the whole interval is below it
    missed     the whole interval is above it
    undecided  neither: take more pairs, or a quieter machine

The cost of a job is wall time from `run()` to its return, for a job that does nothing in a process that
waits. Speed is measured inside of two processes that take turns: folding and verification of one network,
same seed, same niceness; processor time of all threads, and wall time.
"""

from __future__ import annotations

import argparse
import importlib
import json
import queue
import random
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.duel import interval as bootstrap
from folding.progress import Event
from service.runner import bubblewrap
from service.runner import job as real
from service.runner.base import JobSpec
from service.runner.config import RunnerConfig
from service.runner.jail import LAYERS
from service.runner.process import ProcessRunner

ROOT = Path(__file__).resolve().parents[2]
JOB_MILLISECONDS, SPEED_PERCENT = 50.0, 3.0
LEAST_PAIRS = 8  # of fewer, the bootstrap knows nothing
PAIRS = 25  # of one pair of processes; then new ones, since each process has its own luck with memory
ONNX_ONLY = ("numpy", "onnx", "onnx_ir", "onnxruntime", "folding.pipeline", "folding.verify")


class _Silent:
    """What one run says goes nowhere."""

    def send(self, **message: Any) -> None:
        """See `service.runner.job.Sender`."""


def run_job(job: dict[str, Any], channel: real.Sender) -> None:
    """Used as `entry`: nothing, or a run of the input each time that the parent gives the word."""
    folder = Path(job["folder"])
    if not job["options"].get("idle"):
        channel.send(event={"stage": "here", "fraction": None, "message": str(folder)})
        number = 0
        while (word := _word(folder / "in" / f"word-{number}")) == "run":
            wall, cpu = time.perf_counter(), time.process_time()
            real._dispatch({**job, "options": {"seed": 7}, "kind": "fold"}, _Silent())
            spent = [time.process_time() - cpu, time.perf_counter() - wall]
            channel.send(event={"stage": f"ran {number}", "fraction": None, "message": json.dumps(spent)})
            number += 1
        assert word == "end"
    (folder / "out" / "report.json").write_text("{}")
    channel.send(done={})


def _word(path: Path) -> str:
    """What the parent says, as soon as it says it."""
    while not path.exists():
        time.sleep(0.001)
    return path.read_text()


class Process:
    """A process that folds and verifies on request; it stays the same for many turns."""

    def __init__(self, each: ProcessRunner, model: Path, folder: Path) -> None:
        self._events: queue.Queue[Event] = queue.Queue()
        self._number = 0
        spec = JobSpec("m", "fold", model, folder)
        self._thread = threading.Thread(
            target=each.run,
            args=(spec,),
            kwargs={"on_event": self._events.put, "cancel": threading.Event()},
        )
        self._thread.start()
        self._home = Path(self._events.get(timeout=60).message)

    def turn(self) -> list[float]:
        """(processor, wall) seconds of one run."""
        self._say("run")
        self._number += 1
        spent: list[float] = json.loads(self._events.get(timeout=300).message)
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
            scratch=scratch, entry="tests.security.measure", read=(str(ROOT / "tests"),), nice=0,
            allow_unsandboxed=True, warm=ONNX_ONLY, **way,
        )
    )  # fmt: skip
    made.start()
    return made


def runners(scratch: Path) -> dict[str, ProcessRunner]:
    """`none`, and each level that this machine has."""
    ways: dict[str, dict[str, Any]] = {"none": {"layers": (), "bubblewrap": False, "cgroup": False}}
    ways["strong"] = {"layers": LAYERS, "bubblewrap": False}
    if bubblewrap.available():
        ways["full"] = {"layers": LAYERS, "bubblewrap": True}
    made = {name: runner(scratch, **way) for name, way in ways.items()}
    for name, each in list(made.items()):
        if name != "none" and each.level() != name:
            print(f"{name}: not to be had here (a runner reports {each.level()})")
            made.pop(name).close()
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


def interval(values: list[float]) -> tuple[float, float, float]:
    """Median of `values` and the bootstrap interval of it (percentiles 2.5 and 97.5)."""
    return float(np.median(values)), *bootstrap(values, draws=4000)


def judged(found: tuple[float, float, float], bar: float) -> str:
    """shown, missed or undecided."""
    return "shown" if found[2] < bar else "missed" if found[1] > bar else "undecided"


def measure(made: dict[str, ProcessRunner], model: Path, folder: Path, seconds: float) -> dict[str, Any]:
    """Pairs until the time is up: level -> lists of differences (ms) and ratios (%)."""
    coin = random.Random(5)
    found: dict[str, dict[str, list[float]]] = {
        level: {"job": [], "processor": [], "wall": []} for level in made if level != "none"
    }
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for level, lists in found.items():
            at_rest(made)
            both = {name: Process(made[name], model, folder) for name in ("none", level)}
            at_rest(made)
            for count in range(1 + PAIRS):
                spent = {name: both[name].turn() for name in coin.sample(["none", level], 2)}
                for kind, position in (("processor", 0), ("wall", 1)):
                    if count:  # the first run of a process is like no other
                        ratio = spent[level][position] / spent["none"][position]
                        lists[kind].append(100 * (ratio - 1))
            for process in both.values():
                process.end()
            for _ in range(3):
                at_rest(made)
                walls = {}
                for name in coin.sample(["none", level], 2):
                    walls[name] = idle_job(made[name], model, folder)
                    at_rest(made)
                lists["job"].append(1000 * (walls[level] - walls["none"]))
    return found


def main() -> None:
    """Print a line a bar and level."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--net", default="inverted_residual", help="a builder of bench/nets.py")
    given = parser.parse_args()
    build: Callable[[Path], Any] = getattr(importlib.import_module("bench.nets"), given.net)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "model.onnx"
        build(model)
        made = runners(folder / "scratch")
        found = measure(made, model, folder, given.seconds)
        for level, lists in found.items():
            for kind, bar, unit in (
                ("job", JOB_MILLISECONDS, "ms a job"),
                ("processor", SPEED_PERCENT, "% of processor time"),
                ("wall", SPEED_PERCENT, "% of wall time"),
            ):
                middle, low, high = cost = interval(lists[kind])
                count = len(lists[kind])
                word = judged(cost, bar) if count >= LEAST_PAIRS else "undecided"
                print(
                    f"{level:7} {middle:+6.1f} {unit:20} [{low:+.1f}, {high:+.1f}], {count} pairs; "
                    f"less than {bar:g}: {word}"
                )
        for each in made.values():
            each.close()


if __name__ == "__main__":
    main()
