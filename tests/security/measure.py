"""What the jail costs: `python -m tests.security.measure`. Levels take turns: the machine's mood cancels.

Latency is from `run()` to its return for a job that does nothing, in a process that waits. Speed is CPU time
(all threads) of a fixed piece of folding and verification in the same process.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from service.runner import bubblewrap
from service.runner import job as real
from service.runner.base import JobSpec
from service.runner.config import RunnerConfig
from service.runner.jail import LAYERS
from service.runner.process import ProcessRunner

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 12


def run_job(job: dict[str, Any], channel: real.Sender) -> None:
    """Used as `entry`: nothing, or three folds with verification of the input, timed from the second on."""
    spent: list[float] = []
    if not job["options"].get("idle"):
        for _ in range(4):
            began = time.process_time()
            real._dispatch({**job, "options": {}, "kind": "fold"}, channel)
            spent.append(time.process_time() - began)
    (Path(job["folder"]) / "out" / "report.json").write_text(json.dumps(spent[1:]))
    channel.send(done={})


def runners(scratch: Path) -> dict[str, ProcessRunner]:
    """One per level that this machine has."""
    ways: dict[str, dict[str, Any]] = {"none": {"layers": (), "bubblewrap": False, "cgroup": False}}
    ways["strong"] = {"layers": LAYERS, "bubblewrap": False}
    if bubblewrap.available():
        ways["full"] = {"layers": LAYERS, "bubblewrap": True}
    made = {}
    for name, way in ways.items():
        config = RunnerConfig(
            scratch=scratch,
            entry="tests.security.measure",
            read=(str(ROOT / "tests"),),
            allow_unsandboxed=True,
            **way,
        )
        made[name] = ProcessRunner(config)
        made[name].start()
    return made


def once(runner: ProcessRunner, model: Path, folder: Path, *, idle: bool) -> tuple[float, list[float]]:
    """Wall seconds of the call, and the CPU seconds that the job measured."""
    while not runner.idle():
        time.sleep(0.02)
    began = time.perf_counter()
    spec = JobSpec("m", "fold", model, folder, options={"idle": idle})
    outcome = runner.run(spec, on_event=lambda event: None, cancel=threading.Event())
    wall = time.perf_counter() - began
    assert outcome.report is not None, outcome
    return wall, json.loads(outcome.report.read_text())


def main() -> None:
    """Print one line a level."""
    from tests.security.strategies import SOUND

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "model.onnx"
        model.write_bytes(SOUND["onnx"]())
        made = runners(folder / "scratch")
        latency: dict[str, list[float]] = {level: [] for level in made}
        speed: dict[str, list[float]] = {level: [] for level in made}
        for _ in range(ROUNDS):
            for level, runner in made.items():
                latency[level].append(once(runner, model, folder, idle=True)[0])
                speed[level].extend(once(runner, model, folder, idle=False)[1])
        for level in made:
            cost = 1000 * (statistics.median(latency[level]) - statistics.median(latency["none"]))
            slower = 100 * (min(speed[level]) / min(speed["none"]) - 1)
            middle = 100 * (statistics.median(speed[level]) / statistics.median(speed["none"]) - 1)
            print(
                f"{level:8} {1000 * statistics.median(latency[level]):7.1f} ms a job ({cost:+.1f} ms), "
                f"folding and verification {slower:+.1f} % (fastest), {middle:+.1f} % (median)"
            )
        for runner in made.values():
            runner.close()


if __name__ == "__main__":
    main()
