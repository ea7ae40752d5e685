"""Two nodes that are one.

Given:  f(f(x)) with f one of Ceil, Floor, Round, Sign, Abs; Not(Not(x)); one Pad after another; one
        Slice after another over other axes; Unsqueeze(Reduce(x)) that gives axes back
Result: f(x); x; one Pad; one Slice; the reduction with keepdims=1
Not Log(Softmax(x)): where a probability underflows its logarithm is -inf, and that of LogSoftmax is finite.
Given:  Einsum("...k,kn->...n", x, w) or with w as "nk"      Result: MatMul(x, w), which rules know
"""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir

from folding.ir.edit import initializer, insert, replace
from folding.ir.query import array, attribute, axes_of, graph_of, ints, is_op, only_user, scalar
from folding.ir.shapes import inferred_rank
from folding.passes.base import Peephole

_IDEMPOTENT = ("Ceil", "Floor", "Round", "Sign", "Abs")
_REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
               "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp", "ArgMax", "ArgMin")  # fmt: skip
_WITH_WEIGHTS = re.compile(r"(\w*)(\w),(\w)(\w)->(\w+)")


def _inner(node: ir.Node, *op_types: str) -> ir.Node | None:
    """The node that makes input 0 for this node alone, if it is one of these."""
    value = node.inputs[0] if node.inputs else None
    producer = value.producer() if value is not None else None
    if producer is None or value is None or not is_op(producer, *op_types) or only_user(value) is not node:
        return None
    return producer if producer.inputs and producer.inputs[0] is not None else None


def _again(node: ir.Node) -> bool:
    value = node.inputs[0]
    producer = value.producer() if value is not None else None
    same = producer is not None and is_op(producer, node.op_type)
    return same and value is not None and replace(node.outputs[0], value)


def _not(node: ir.Node) -> bool:
    inner = _inner(node, "Not")
    return inner is not None and inner.inputs[0] is not None and replace(node.outputs[0], inner.inputs[0])


def _unsqueeze(node: ir.Node) -> bool:
    inner, result = _inner(node, *_REDUCTIONS), node.outputs[0]
    count = inferred_rank(inner.inputs[0]) if inner is not None else None
    if inner is None or count is None or attribute(inner, "keepdims", 1):
        return False
    back = axes_of(node)
    gone = [attribute(inner, "axis", 0)] if inner.op_type.startswith("Arg") else axes_of(inner)
    if not back or not gone or {axis % count for axis in back} != {axis % count for axis in gone}:
        return False
    kept = {name: attribute(inner, name) for name in inner.attributes} | {"keepdims": 1}
    new = insert(node, inner.op_type, list(inner.inputs), kept, like=result, shape=result.shape,
                 name=f"{result.name}_kept")  # fmt: skip
    return replace(result, new)


def _bounds(node: ir.Node) -> list[list[int]] | None:
    """[starts, ends, axes, steps] of a Slice with constant operands."""
    starts, ends = (ints(node.inputs[i]) if i < len(node.inputs) else None for i in (1, 2))
    if starts is None or ends is None:
        return None
    rest: list[list[int]] = []
    for i, default in ((3, list(range(len(starts)))), (4, [1] * len(starts))):
        value = node.inputs[i] if i < len(node.inputs) else None
        given = default if value is None else ints(value)
        if given is None:
            return None
        rest.append(given)
    return [starts, ends, *rest]


def _slice(node: ir.Node) -> bool:
    inner, result = _inner(node, "Slice"), node.outputs[0]
    count = inferred_rank(result)
    first, second = (None if item is None else _bounds(item) for item in (inner, node))
    if inner is None or count is None or first is None or second is None:
        return False
    if {axis % count for axis in first[2]} & {axis % count for axis in second[2]}:
        return False
    graph = graph_of(node)
    parts = [
        initializer(graph, f"{result.name}_{role}", np.array(one + two, np.int64))
        for role, one, two in zip(("starts", "ends", "axes", "steps"), first, second, strict=True)
    ]
    new = insert(node, "Slice", [inner.inputs[0], *parts], like=result, shape=result.shape,
                 name=f"{result.name}_sliced")  # fmt: skip
    return replace(result, new)


def _fill(node: ir.Node) -> float | None:
    """The padding value; None where it is not constant."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    return 0.0 if value is None else scalar(value)


def _pad(node: ir.Node) -> bool:
    inner, result = _inner(node, "Pad"), node.outputs[0]
    if inner is None or any(len(item.inputs) < 2 or len(item.inputs) > 3 for item in (inner, node)):
        return False
    if any(attribute(item, "mode", "constant") != "constant" for item in (inner, node)):
        return False
    first, second, fill = ints(inner.inputs[1]), ints(node.inputs[1]), _fill(node)
    if first is None or second is None or fill is None or fill != _fill(inner) or min(*first, *second) < 0:
        return False
    widths = np.array(first, np.int64) + np.array(second, np.int64)
    operand = initializer(graph_of(node), f"{result.name}_pads", widths)
    new = insert(node, "Pad", [inner.inputs[0], operand, *node.inputs[2:]], {"mode": "constant"}, like=result,
                 shape=result.shape, name=f"{result.name}_padded")  # fmt: skip
    return replace(result, new)


def _einsum(node: ir.Node) -> bool:
    """A product with one constant matrix over the last axis."""
    equation = attribute(node, "equation", "").replace(" ", "")
    match, result = _WITH_WEIGHTS.fullmatch(equation), node.outputs[0]
    weights = array(node.inputs[1]) if len(node.inputs) == 2 else None
    if match is None or weights is None or inferred_rank(node.inputs[0]) != len(match[1]) + 1 or not match[1]:
        return False
    lead, summed, left, right, out = match.groups()
    free = right if left == summed else left
    letters = lead + summed + free
    if summed not in (left, right) or out != lead + free or len(set(letters)) != len(letters):
        return False
    operand = node.inputs[1]
    if left != summed:
        turned = np.ascontiguousarray(weights.T)
        operand = initializer(graph_of(node), f"{operand.name}_transposed", turned)  # type: ignore[union-attr]
    new = insert(node, "MatMul", [node.inputs[0], operand], like=result, shape=result.shape,
                 name=f"{result.name}_product")  # fmt: skip
    product = new.producer()
    assert product is not None
    product.name = node.name
    return replace(result, new)


RULES: tuple[tuple[str, Peephole], ...] = (
    *((op_type, _again) for op_type in _IDEMPOTENT),
    ("Not", _not),
    ("Unsqueeze", _unsqueeze),
    ("Slice", _slice),
    ("Pad", _pad),
    ("Einsum", _einsum),
)
