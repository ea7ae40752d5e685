"""The model in float64, by our own evaluation: the reference that neither side's rounding touches.

`ir.evaluate` has the operators; what it has no answer for leaves the model without a float64 reference.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx

from folding.ir.evaluate import NotEvaluatedError, widen
from folding.ir.evaluate.graph import run_nodes
from folding.ir.types import Feeds
from folding.verify.compare.segments import Engine
from folding.verify.model import Loaded, read_tensor

__all__ = ["Float64UnavailableError", "engine", "evaluate", "widen"]


class Float64UnavailableError(Exception):
    """This model cannot be had in float64 here; the text says why."""


def evaluate(
    loaded: Loaded,
    feeds: Feeds,
    *,
    weights: Feeds | None = None,
    forced: Feeds | None = None,
    extra: Iterable[str] = (),
    deadline: float | None = None,
) -> Feeds:
    """Return outputs (and `extra` inner values) by name, floats in float64.

    weights: other weights than the file's. forced: inner values that consumers read instead of the computed
    ones (the computed ones are what is returned). deadline: on `time.perf_counter`.

    Raises: Float64UnavailableError.
    """
    proto = inlined(loaded.proto)
    opset = {entry.domain: entry.version for entry in proto.opset_import}.get("", 1)
    values = dict(weights or loaded.weights)
    for tensor in proto.graph.initializer:
        values[tensor.name] = read_tensor(tensor, loaded.folder)
    values.update(feeds)
    wanted = [*loaded.outputs, *extra]
    try:
        return run_nodes(proto.graph, values, opset, wanted, forced=forced, deadline=deadline)
    except NotEvaluatedError as exc:
        raise Float64UnavailableError(str(exc)) from exc


def inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model without functions."""
    if not proto.functions:
        return proto
    from onnx import inliner

    return inliner.inline_local_functions(proto)


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
