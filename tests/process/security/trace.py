"""Trace system calls for the allow-list: `python -m tests.process.security.trace PATH[=NPZ] ...`.

Each path is folded with verification, inspected, and verified against its own artifact; with an NPZ of its
inputs it is folded once more, its statistics measured anew on them. Each job runs in its jail under strace.
Printed: a line per job, calls that were refused (with who asked, they may be a library's question that it can
do without), and calls that the list allows and nobody made.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from service.runner.jail import seccomp

_JOB: Final = """
import json, sys, threading
from pathlib import Path
from service.runner.base import JobSpec, JobLimits
from service.runner.config import RunnerConfig
from service.runner.local import LocalRunner
kind, source, out, options, *data = sys.argv[1:]
calibration, second = (Path(each) if each else None for each in data)
runner = LocalRunner(RunnerConfig(bubblewrap=False, cgroup=False))
spec = JobSpec("t", kind, Path(source), Path(out), json.loads(options), limits=JobLimits(wall_seconds=400),
               calibration=calibration, second=second)
outcome = runner.run(spec, on_event=lambda event: None, cancel=threading.Event())
print(outcome.status.value, (outcome.error or {}).get("code", ""), outcome.sandbox)
"""
# pid, call, the rest of the line
_LINE: Final = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?: resumed>|\()(.*)$")
_REFUSED: Final = re.compile(r"= -1 (EPERM|ENOSYS)")


@dataclass(frozen=True)
class Job:
    """What is traced; fields as in `JobSpec`."""

    kind: str
    source: Path
    options: str = "{}"
    calibration: Path | None = None
    second: Path | None = None


def traced(job: Job, out: Path) -> tuple[str, Counter[str], list[str]]:
    """(how the job ended, calls made in the jail by name, lines of refused ones). Its files go to `out`."""
    out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "trace")
        strace = ["strace", "-f", "-qq", "-e", "signal=none", "-s", "60", "-o", str(log)]
        given = [
            job.kind,
            str(job.source),
            str(out),
            job.options,
            str(job.calibration or ""),
            str(job.second or ""),
        ]
        done = subprocess.run(
            [*strace, sys.executable, "-c", _JOB, *given],
            capture_output=True, text=True, timeout=580, env=dict(os.environ),
        )  # fmt: skip
        ended = done.stdout.strip() or done.stderr.strip()[-300:]
        return ended, *_jailed(log)


def _jailed(log: Path) -> tuple[Counter[str], list[str]]:
    """Calls of threads that a filter holds, from its installation and the canary on."""
    made: Counter[str] = Counter()
    refused: list[str] = []
    held: set[str] = set()
    ready: set[str] = set()
    with log.open(errors="replace") as lines:
        for line in lines:
            match = _LINE.match(line)
            if match is None:
                continue
            thread, call, rest = match.groups()
            if (call == "prctl" and "PR_SET_SECCOMP" in rest) or call == "seccomp":
                held.add(thread)
            elif thread in held and call == "write" and '{\\"ready' in rest:
                ready.add(thread)  # the canary is over: what follows is work
            elif thread in ready:
                _note(call, rest, line, made, refused)
                if call in ("clone", "clone3") and (child := re.search(r"= (\d+)$", rest)):
                    held.add(child[1])
                    ready.add(child[1])
            elif call in ("clone", "clone3") and thread in held and (child := re.search(r"= (\d+)$", rest)):
                held.add(child[1])
    return made, refused


def _note(call: str, rest: str, line: str, made: Counter[str], refused: list[str]) -> None:
    made[call] += 1
    if _REFUSED.search(rest):
        refused.append(line.split(" ", 1)[1].strip()[:160])


def jobs(source: Path, calibration: Path | None, out: Path) -> Iterator[Job]:
    """What is asked of one source, in this order: the artifact of the first is used by the third."""
    yield Job("fold", source)
    yield Job("inspect", source)
    yield Job("verify", source, second=out / "model.onnx")
    if calibration is not None:
        yield Job("fold", source, '{"recalibrate": true}', calibration)


def main(sources: list[tuple[Path, Path | None]]) -> None:
    """A small ONNX model, and every path on the command line."""
    from tests.process.security.strategies import SOUND

    total: Counter[str] = Counter()
    denied: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        model = Path(name, "model.onnx")
        model.write_bytes(SOUND["onnx"]())
        for number, (source, calibration) in enumerate([(model, None), *sources]):
            out = Path(name, f"out-{number}")
            for job in jobs(source, calibration, out):
                ended, made, refused = traced(job, out)
                total += made
                denied.update(re.sub(r"\d+", "N", line)[:100] for line in refused)
                told = f"{job.kind}{' calibrated' if job.calibration else ''} {source}"
                print(f"{told}: {ended}; {made.total()} calls, {len(refused)} refused", flush=True)
    print("\nrefused:", *(f"{count:6} {line}" for line, count in denied.most_common(60)), sep="\n")
    print("\nmade:", " ".join(f"{call}:{count}" for call, count in sorted(total.items())))
    print("\nallowed and not made:", " ".join(sorted(set(seccomp.ALLOWED) - set(total))))


def _given(argument: str) -> tuple[Path, Path | None]:
    source, _, calibration = argument.partition("=")
    return Path(source).absolute(), Path(calibration).absolute() if calibration else None


if __name__ == "__main__":
    main([_given(argument) for argument in sys.argv[1:]])
