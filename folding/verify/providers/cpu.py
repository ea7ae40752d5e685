"""ONNX Runtime's CPU provider: always there, one variant, judged."""

from __future__ import annotations

from pathlib import Path

from folding.ort import OrtSession
from folding.verify.bounds import Arithmetic
from folding.verify.providers.base import Session


class Cpu:
    """CPUExecutionProvider."""

    name = "cpu"

    def unavailable(self) -> str | None:
        """Never: every build of ONNX Runtime has it."""
        return None

    def variants(self) -> list[tuple[str, bool]]:
        """One variant, judged."""
        return [("cpu", True)]

    def arithmetic(self, variant: str, types: Arithmetic) -> Arithmetic | None:
        """That of the graph's types."""
        return types

    def open(self, model: Path, level: str, variant: str) -> Session:
        """A session at one optimization level."""
        return OrtSession(model, level)

    def open_with_threads(self, model: Path, level: str, threads: int) -> Session:
        """Return a session that computes an operator with this many threads; latency is measured in it."""
        return OrtSession(model, level, threads=threads)
