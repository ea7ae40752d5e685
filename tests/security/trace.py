"""System calls that real work makes: `python -m tests.security.trace PATH ...`, source of the allow-list.

Each job runs in its jail under strace. Printed: calls that were refused (with who asked, they may be a
library's question that it can do without), calls that the list allows and nobody made, and a line per job.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Final

from service.runner import seccomp

_JOB: Final = """
import json, sys, threading
from pathlib import Path
from service.runner.base import JobSpec, Limits
from service.runner.config import RunnerConfig
from service.runner.local import LocalRunner
kind, source, out, options, calibration = sys.argv[1:6]
runner = LocalRunner(RunnerConfig(bubblewrap=False, cgroup=False))
spec = JobSpec("t", kind, Path(source), Path(out), json.loads(options), limits=Limits(wall_seconds=400),
               calibration=Path(calibration) if calibration else None)
outcome = runner.run(spec, on_event=lambda event: None, cancel=threading.Event())
print(outcome.status.value, (outcome.error or {}).get("code", ""), outcome.sandbox)
"""
# pid, call, the rest of the line
_LINE: Final = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?: resumed>|\()(.*)$")
_REFUSED: Final = re.compile(r"= -1 (EPERM|ENOSYS)")


def traced(
    kind: str, source: Path, options: str = "{}", calibration: Path | None = None
) -> tuple[str, Counter[str], list[str]]:
    """(how the job ended, calls made in the jail by name, lines of the refused ones)."""
    with tempfile.TemporaryDirectory() as folder:
        log, out = Path(folder, "trace"), Path(folder, "out")
        out.mkdir()
        command = [
            "strace",
            "-f",
            "-qq",
            "-e",
            "signal=none",
            "-s",
            "60",
            "-o",
            str(log),
            sys.executable,
            "-c",
        ]
        arguments = [_JOB, kind, str(source), str(out), options, str(calibration or "")]
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=580, env=dict(os.environ)
        )
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


def main(sources: list[Path]) -> None:
    """A small ONNX model, and every path on the command line: folded with verification, and inspected."""
    from tests.security.strategies import SOUND

    total: Counter[str] = Counter()
    denied: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        model = Path(name, "model.onnx")
        model.write_bytes(SOUND["onnx"]())
        for source in [model, *sources]:
            for kind in ("fold", "inspect"):
                ended, made, refused = traced(kind, source)
                total += made
                denied.update(re.sub(r"\d+", "N", line)[:100] for line in refused)
                print(f"{kind} {source}: {ended}; {made.total()} calls, {len(refused)} refused", flush=True)
    print("\nrefused:", *(f"{count:6} {line}" for line, count in denied.most_common(60)), sep="\n")
    print("\nmade:", " ".join(f"{call}:{count}" for call, count in sorted(total.items())))
    print("\nallowed and not made:", " ".join(sorted(set(seccomp.ALLOWED) - set(total))))


if __name__ == "__main__":
    main([Path(argument).absolute() for argument in sys.argv[1:]])
