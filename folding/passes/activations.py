"""Activations written out become the operator that they are; bounds on top of bounds become one.

Given:  Relu(Relu(x)), Relu(Clip(x, a, b)), Clip(Clip(x)), Max(x, 0), Min(Max(x, a), b)
Result: Relu(x), Clip(x, max(a, 0), b), Clip(x), Relu(x), Clip(x, a, b)
Given:  x * Clip(x + 3, 0, 6) / 6 (the factor anywhere), x * HardSigmoid(x, 1/6, 1/2)
Result: HardSwish(x)                                                                        from opset 14 on
Given:  Clip(x + 3, 0, 6) / 6                                      Result: HardSigmoid(x, 1/6, 1/2)
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from folding.ir.edit import initializer, insert, replace
from folding.ir.query import attribute, graph_of, is_op, only_user, opset, scalar
from folding.passes.base import Peephole

_HARD_SWISH_SINCE = 14
_SIXTH = 1 / 6
_CLOSE = 1e-6  # the constants are float32 renderings of 3, 6, 1/6


def bounds(node: ir.Node) -> tuple[float, float] | None:
    """(low, high) of Relu or Clip; None when not constant."""
    if is_op(node, "Relu"):
        return 0.0, math.inf
    if not is_op(node, "Clip"):
        return None
    low = attribute(node, "min", -math.inf)
    high = attribute(node, "max", math.inf)
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        low = scalar(node.inputs[1])
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        high = scalar(node.inputs[2])
    return None if low is None or high is None else (low, high)


def _merge_bounds(node: ir.Node) -> bool:
    """Relu or Clip of a Relu or Clip that nobody else reads."""
    value = node.inputs[0]
    inner = value.producer() if value is not None else None
    outer_bounds = bounds(node)
    inner_bounds = bounds(inner) if inner is not None else None
    if value is None or inner is None or outer_bounds is None or inner_bounds is None:
        return False
    low = max(inner_bounds[0], outer_bounds[0])
    high = min(inner_bounds[1], outer_bounds[1])
    if (low, high) == inner_bounds and not node.outputs[0].is_graph_output():
        return replace(node.outputs[0], value)
    if low > high or only_user(value) is not node:
        return False
    return _bounded(node, inner.inputs[0], low, high)


def _bounded(node: ir.Node, source: ir.Value | None, low: float, high: float) -> bool:
    """Replace the node by Relu or Clip of `source`."""
    result = node.outputs[0]
    if (low, high) == (0.0, math.inf):
        new = insert(node, "Relu", [source], like=result, shape=result.shape, name=f"{result.name}_relu")
        return replace(result, new)
    if opset(node) < 11 or result.dtype is None:
        return False
    graph, kind = graph_of(node), result.dtype.numpy()
    limits: list[ir.Value | None] = [
        initializer(graph, f"{result.name}_{role}", np.array(limit, kind)) if math.isfinite(limit) else None
        for role, limit in (("min", low), ("max", high))
    ]
    while limits and limits[-1] is None:
        limits.pop()
    new = insert(node, "Clip", [source, *limits], like=result, shape=result.shape, name=f"{result.name}_clip")
    return replace(result, new)


def _min_max(node: ir.Node) -> bool:
    """Max(x, c) and Min(x, c) with one number c."""
    if len(node.inputs) != 2 or node.outputs[0].dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
        return False
    for position in (0, 1):
        number, source = scalar(node.inputs[position]), node.inputs[1 - position]
        wide = node.inputs[position].shape  # type: ignore[union-attr]
        if number is None or source is None or source.shape is None or wide is None:
            continue
        if len(wide) > len(source.shape):
            continue
        low, high = (number, math.inf) if node.op_type == "Max" else (-math.inf, number)
        return _bounded(node, source, low, high)
    return False


def _shifted_by_three(node: ir.Node | None) -> ir.Value | None:
    """x of Clip(x + 3, 0, 6)."""
    if node is None or bounds(node) != (0.0, 6.0) or node.inputs[0] is None:
        return None
    add = node.inputs[0].producer()
    if add is None or not is_op(add, "Add"):
        return None
    for position in (0, 1):
        if scalar(add.inputs[position]) == 3.0:
            return add.inputs[1 - position]
    return None


def _hard_sigmoid_of(value: ir.Value | None) -> ir.Value | None:
    """x where `value` is Clip(x + 3, 0, 6) / 6, or HardSigmoid(x, 1/6, 1/2)."""
    node = value.producer() if value is not None else None
    if node is None:
        return None
    if is_op(node, "HardSigmoid"):
        slope, offset = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
        return node.inputs[0] if abs(slope - _SIXTH) < _CLOSE and abs(offset - 0.5) < _CLOSE else None
    sixth = _divided_by_six(node)
    return _shifted_by_three(sixth.producer()) if sixth is not None else None


def _divided_by_six(node: ir.Node | None) -> ir.Value | None:
    """v of v / 6 or v * (1/6)."""
    if node is None:
        return None
    if is_op(node, "Div") and scalar(node.inputs[1]) == 6.0:
        return node.inputs[0]
    if is_op(node, "Mul"):
        for position in (0, 1):
            factor = scalar(node.inputs[position])
            if factor is not None and abs(factor - _SIXTH) < _CLOSE:
                return node.inputs[1 - position]
    return None


def _gated(node: ir.Node | None) -> ir.Value | None:
    """x of x * Clip(x + 3, 0, 6)."""
    if node is None or not is_op(node, "Mul"):
        return None
    for position in (0, 1):
        gate = node.inputs[position]
        source = _shifted_by_three(gate.producer()) if gate is not None else None
        if source is not None and source is node.inputs[1 - position]:
            return source
    return None


def _hard_swish(node: ir.Node) -> bool:
    """The three places where the sixth may stand: outside, on the gate, on x."""
    if opset(node) < _HARD_SWISH_SINCE or node.outputs[0].dtype not in (
        ir.DataType.FLOAT,
        ir.DataType.DOUBLE,
    ):
        return False
    product = _divided_by_six(node)
    source = _gated(product.producer()) if product is not None else None
    if source is None and is_op(node, "Mul"):
        for position in (0, 1):
            gate, other = node.inputs[position], node.inputs[1 - position]
            if _hard_sigmoid_of(gate) is other and other is not None:
                source = other
            scaled = _divided_by_six(other.producer()) if other is not None else None
            if scaled is not None and gate is not None and _shifted_by_three(gate.producer()) is scaled:
                source = scaled
    if source is None:
        return False
    return _unary(node, "HardSwish", source, {})


def _hard_sigmoid(node: ir.Node) -> bool:
    """Clip(x + 3, 0, 6) / 6 that does not multiply x itself."""
    scaled = _divided_by_six(node)
    source = _shifted_by_three(scaled.producer()) if scaled is not None else None
    if source is None or opset(node) < 6 or scaled is None or only_user(scaled) is not node:
        return False
    return _unary(node, "HardSigmoid", source, {"alpha": _SIXTH, "beta": 0.5})


def _unary(node: ir.Node, op_type: str, source: ir.Value, attributes: dict[str, float]) -> bool:
    result = node.outputs[0]
    new = insert(node, op_type, [source], dict(attributes), like=result, shape=result.shape,
                 name=f"{result.name}_{op_type.lower()}")  # fmt: skip
    return replace(result, new)


RULES: tuple[tuple[str, Peephole], ...] = (
    ("Relu", _merge_bounds),
    ("Clip", _merge_bounds),
    ("Max", _min_max),
    ("Min", _min_max),
    ("Mul", _hard_swish),
    ("Div", _hard_swish),
    ("Mul", _hard_sigmoid),
    ("Div", _hard_sigmoid),
)
