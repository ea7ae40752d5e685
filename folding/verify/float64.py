"""The model in float64, by our own evaluation: the reference that neither side's rounding touches.

`ir.evaluate` has the operators; what it has no answer for leaves the model without a float64 reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import onnx

from folding.ir.evaluate import NotEvaluatedError, view_of, widen
from folding.ir.evaluate.graph import run_node, run_nodes
from folding.ir.types import Array, Feeds
from folding.verify.model import Loaded, read_tensor

__all__ = ["Float64UnavailableError", "apply_node", "attributes", "evaluate", "inlined", "widen"]


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


def apply_node(proto: onnx.NodeProto, operands: Sequence[Array | None], opset: int) -> tuple[Array, ...]:
    """Return one node's outputs on operands by position, in float64. Raises: Float64UnavailableError."""
    names = [f"operand_{i}" if operand is not None else "" for i, operand in enumerate(operands)]
    copy = onnx.NodeProto()
    copy.CopyFrom(proto)
    del copy.input[:]
    copy.input.extend(names)
    values = {name: operand for name, operand in zip(names, operands, strict=True) if operand is not None}
    try:
        return run_node(copy, values, opset)
    except NotEvaluatedError as exc:
        raise Float64UnavailableError(str(exc)) from exc


def attributes(proto: onnx.NodeProto, opset: int) -> Callable[[str, Any], Any]:
    """Return a function that reads an attribute, or gives the default."""
    return view_of(proto, (), opset=opset).get
