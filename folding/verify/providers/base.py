"""Vocabulary of verification: a candidate session, a provider."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from folding.ir.types import Feeds
from folding.verify.bounds import Arithmetic

DEFAULTS = "enable_all"  # the level at which ONNX Runtime opens a model by itself
ORT_FORMAT = "ort_format"  # in the place of a level: the runtime optimized the file when it wrote it


class Session(Protocol):
    """One loaded artifact on one provider at one optimization level."""

    def run(self, feeds: Feeds) -> Feeds:
        """Outputs by name."""
        ...


class Provider(Protocol):
    """An ONNX Runtime execution provider, by the short name that users write (`cpu`, `cuda`)."""

    name: str

    def unavailable(self) -> str | None:
        """Why it cannot be used here, or None when it can."""
        ...

    def variants(self) -> list[tuple[str, bool]]:
        """(label, judged): for instance `cuda` judged with TF32 off, `cuda tf32` reported only."""
        ...

    def arithmetic(self, variant: str, types: Arithmetic) -> Arithmetic | None:
        """How a variant computes a graph of these types at `disable_all`; None where nothing states it."""
        ...

    def open(self, model: Path, level: str, variant: str) -> Session:
        """Open a session at `disable_all` or `enable_all`."""
        ...
