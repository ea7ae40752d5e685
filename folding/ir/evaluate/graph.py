"""Runs an ONNX graph node by node in NumPy."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import onnx

from folding.ir.evaluate.borrowed import BORROWED, borrowed
from folding.ir.evaluate.dtypes import widen
from folding.ir.evaluate.registry import OPERATORS, compute
from folding.ir.evaluate.view import Mode, NotEvaluatedError, view_of
from folding.ir.query import STANDARD
from folding.ir.types import Array, Feeds

# What copies elements is widened behind it: a table of which a few rows are read is never wide as a whole.
COPIED = frozenset(("Gather",))
_GRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


def run_nodes(
    graph: onnx.GraphProto,
    values: Feeds,
    opset: int,
    wanted: Sequence[str],
    *,
    mode: Mode = Mode.FLOAT64,
    forced: Mapping[str, Array] | None = None,
    deadline: float | None = None,
) -> Feeds:
    """Return wanted values by name; floats as float64 in float64 mode.

    values: what is known: inputs and initializers. A value is forgotten after its last use, and widened only
        while it is in use.
    forced: inner values that their readers get instead of the computed ones (which are what is returned).
    deadline: on `time.perf_counter`.

    Raises NotEvaluatedError.
    """
    values = dict(values)
    last = {name: i for i, node in enumerate(graph.node) for name in node.input}
    keep = set(wanted)
    found = {name: _as_in(mode, values[name]) for name in wanted if name in values}
    for i, node in enumerate(graph.node):
        if deadline is not None and time.perf_counter() > deadline:
            raise NotEvaluatedError("skipped: over its time budget")
        for name, value in zip(node.output, run_node(node, values, opset, mode), strict=False):
            if name in keep:
                found[name] = value
            values[name] = (forced or {}).get(name, value)
        for name in node.input:
            if last.get(name) == i:
                values.pop(name, None)
    return found


def run_node(
    node: onnx.NodeProto, values: Mapping[str, Array], opset: int, mode: Mode = Mode.FLOAT64
) -> tuple[Array, ...]:
    """Return a node's outputs: by our own table, else borrowed. Raises NotEvaluatedError, naming it."""
    try:
        missing = [name for name in node.input if name and name not in values]
        if missing:
            raise NotEvaluatedError(f"{node.op_type}: {missing[0]!r} is not known")
        if any(attribute.type in _GRAPHS for attribute in node.attribute):
            raise NotEvaluatedError(f"control flow ({node.op_type}) is not evaluated")
        if node.domain in STANDARD and node.op_type not in OPERATORS and node.op_type in BORROWED:
            inputs = {name: _as_in(mode, values[name]) for name in node.input if name}
            return borrowed(node, inputs, opset, mode)
        copies = node.op_type in COPIED
        used = [
            (values[name] if copies else _as_in(mode, values[name])) if name else None for name in node.input
        ]
        answers = compute(view_of(node, used, opset=opset, mode=Mode.EXACT if copies else mode))
        return tuple(_as_in(mode, answer) for answer in answers) if copies else answers
    except NotEvaluatedError as exc:
        raise type(exc)(f"{node.name!r}: {exc}" if node.name else str(exc)) from exc


def _as_in(mode: Mode, array: Array) -> Array:
    return widen(array) if mode is Mode.FLOAT64 else array
