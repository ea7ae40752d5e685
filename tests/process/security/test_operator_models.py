"""Operator models, changed at random, are folded or refused by a code of ours: never an exception of others.

Each stretch of models runs in a process of its own, since a library in C++ may end it: the sandbox is there
for that, and the stretch goes on behind the model that did it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from tests.support.paths import ROOT

ONNX_MODELS = 1600  # the onnx package generates more than that in every version that is supported


@dataclass
class Ends:
    """Numbers by how they ended."""

    surprises: list[str] = field(default_factory=list)
    died: list[str] = field(default_factory=list)
    folded: int = 0
    refused: int = 0

    def read(self, text: str) -> int | None:
        """Sort the lines of one process; the number after the last one that it began."""
        last = None
        for line in text.splitlines():
            number, name, *end = line.split(" ", 2)
            last = int(number)
            if not end or not end[0]:
                self.died.append(f"{number} {name}")
            elif end[0].startswith("surprise:"):
                self.surprises.append(line)
            else:
                self.folded += end[0] == "ok"
                self.refused += end[0] != "ok"
        return None if last is None else last + 1


def run(first: int, count: int, *more: str) -> Ends:
    ends = Ends()
    at, stop = first, first + count
    while at < stop:
        command = [
            sys.executable,
            "-m",
            "tests.process.security.operator_models",
            str(at),
            str(stop - at),
            *more,
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3600, check=False)
        following = ends.read(done.stdout)
        assert following is not None, done.stderr[-2000:]
        assert following == stop or done.returncode != 0, done.stderr[-2000:]
        at = following
    return ends


def test_short() -> None:
    """The same mutants in every run."""
    ends = run(0, 300)
    assert not ends.surprises, "\n".join(ends.surprises)
    assert ends.folded >= 30
    assert ends.refused >= 30
    assert len(ends.died) <= 3, ends.died


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_long() -> None:
    """Mutants from BNFOLD_FUZZ_FIRST on, BNFOLD_FUZZ_EXAMPLES of them."""
    first, count = (
        int(os.environ.get(f"BNFOLD_FUZZ_{name}", default))
        for name, default in (("FIRST", 300), ("EXAMPLES", 3000))
    )
    ends = run(first, count)
    assert not ends.surprises, "\n".join(ends.surprises)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_all_as_they_are() -> None:
    """Every operator model without a change."""
    ends = run(0, ONNX_MODELS, "--unchanged")
    assert not ends.surprises, "\n".join(ends.surprises)
    assert not ends.died, ends.died
