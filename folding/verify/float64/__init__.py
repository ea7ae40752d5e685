"""The model in float64, by our own evaluation: the reference that neither side's rounding touches.

Operators that we do not evaluate ourselves go one by one through onnx's reference implementation; an answer
of theirs that is not float64 is refused, so nothing is ever float32 in silence.
"""

from __future__ import annotations

from dataclasses import dataclass

from folding.sources.base import Feeds
from folding.verify.compare.segments import Engine
from folding.verify.float64.evaluator import Float64UnavailableError, evaluate
from folding.verify.model import Loaded

__all__ = ["Float64UnavailableError", "engine", "evaluate"]


@dataclass(frozen=True)
class Float64Runner:
    """A graph, cut, on our own float64 evaluation; satisfies `layers.Runner`."""

    loaded: Loaded
    extra: tuple[str, ...]
    deadline: float | None

    def run(self, feeds: Feeds, weights: Feeds | None = None, forced: Feeds | None = None) -> Feeds:
        """Raises: Float64UnavailableError."""
        return evaluate(
            self.loaded, feeds, weights=weights, forced=forced, extra=self.extra, deadline=self.deadline
        )


def engine(deadline: float | None = None) -> Engine:
    """Our float64 evaluation as an engine of `layers.Layers`."""
    return lambda loaded, extra, forced: Float64Runner(loaded, tuple(extra), deadline)
