"""Fold many models, each in a child process, so that a crash of the runtime is one row and not the end.

The child reads one job a line, `{"path": ..., "options": {...}}`, and answers with one line of JSON. It is
used again for the next job while it lives; `fresh=True` starts one for each job, for peak memory.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

SECONDS = 300.0


@dataclass(frozen=True)
class Row:
    """What became of one model.

    outcome: a verdict, `error CODE`, `internal`, `died SIGNAL` or `timeout`. reason: the summary's or the
    error's own words. folded of norms; nodes of the artifact; seconds of the processor, which a busy
    machine does not lengthen; peak memory of the process in MiB.
    """

    name: str
    outcome: str
    reason: str = ""
    folded: int = 0
    norms: int = 0
    nodes_before: int = 0
    nodes: int = 0
    seconds: float = 0.0
    mebibytes: int = 0
    findings: list[str] = field(default_factory=list)


def fold_all(
    jobs: Iterable[tuple[str, Path]], *, fresh: bool = False, seconds: float = SECONDS
) -> Iterator[Row]:
    """Fold each (name, path) and yield its row, in order."""
    child: _Child | None = None
    for name, path in jobs:
        if child is None:
            child = _Child()
        row = child.fold(name, path, seconds)
        if fresh or row.outcome == "timeout" or row.outcome.startswith("died"):
            child.close()
            child = None
        yield row
    if child is not None:
        child.close()


class _Child:
    """One child process that folds models, one after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name if __spec__ else __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "ORT_DISABLE_TELEMETRY": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
        )

    def fold(self, name: str, path: Path, seconds: float) -> Row:
        """The row of one model, also where the process dies or does not answer in time."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        start = time.perf_counter()
        try:
            stdin.write(json.dumps({"path": str(path)}).encode() + b"\n")
            stdin.flush()
            line = _line(stdout, seconds)
        except BrokenPipeError:
            line = b""
        took = time.perf_counter() - start
        if line is None:
            return Row(name, "timeout", f"no answer within {seconds:.0f} s", seconds=took)
        if not line:
            return Row(name, f"died {self._death()}", "the process that folded it died", seconds=took)
        return Row(name=name, **json.loads(line))

    def _death(self) -> str:
        code = self._process.wait(timeout=30)
        return signal.Signals(-code).name if code < 0 else f"exit {code}"

    def close(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def _line(stream: IO[bytes], seconds: float) -> bytes | None:
    """One line; empty at the end of the stream; None where none comes in time."""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        return stream.readline() if selector.select(seconds) else None


def fold_one(path: Path) -> dict[str, Any]:
    """Fold with default options, in this process, and say what happened."""
    import folding
    from folding.errors import BnfoldError

    start = time.process_time()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bnfold-real-") as scratch:
        try:
            report = folding.fold(path, Path(scratch) / "artifact.onnx")
        except BnfoldError as error:
            found = {"outcome": f"error {error.code}", "reason": str(error)[:400]}
        except Exception as error:  # noqa: BLE001 - an error that is not ours is what this row is to show
            found = {"outcome": "internal", "reason": f"{type(error).__name__}: {error}"[:400]}
        else:
            found = {
                "outcome": report.verdict.value,
                "reason": report.summary[:600],
                "folded": sum(norm.decision == "folded" for norm in report.batch_norms),
                "norms": len(report.batch_norms),
                "nodes_before": report.graph.nodes_before,
                "nodes": report.graph.nodes_after,
                "findings": [hazard.code for hazard in report.hazards],
            }
    found["seconds"] = round(time.process_time() - start, 3)
    found["mebibytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return found


def main() -> None:
    """Answer jobs from standard input until it ends; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        answers.write(json.dumps(fold_one(Path(json.loads(line)["path"]))).encode() + b"\n")


if __name__ == "__main__":
    main()
