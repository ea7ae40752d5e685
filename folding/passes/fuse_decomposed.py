"""Layer norm and GELU written out become the operators that they are, where the opset has them.

Given:  d = x - ReduceMean(x); y = d / Sqrt(ReduceMean(d*d) + epsilon) * gamma + beta       over the last axis
Result: y = LayerNormalization(x, gamma, beta) {axis=-1, epsilon}                          from opset 17 on
Given:  0.5 * x * (1 + Erf(x / sqrt(2))), 0.5 * x * (1 + Tanh(sqrt(2/pi) * (x + 0.044715 * x^3)))
Result: Gelu(x), Gelu(x) {approximate="tanh"}                                               from opset 20 on
Factors stand in any order. What somebody else reads too is not taken.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from folding.ir.edit import insert, replace
from folding.ir.query import array, attribute, axes_of, is_op, only_user, opset, scalar
from folding.ir.shapes import inferred_rank, inferred_shape
from folding.passes.base import Peephole

_LAYER_NORM_SINCE, _GELU_SINCE = 17, 20
_CLOSE = 1e-4  # constants rendered with four digits (0.7979, 0.0447) occur
_KINDS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


def _maker(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node that makes the value, if it is one of these."""
    node = value.producer() if value is not None else None
    return node if node is not None and is_op(node, *op_types) else None


def _split(node: ir.Node | None) -> tuple[ir.Value, float] | None:
    """(v, c) of v + c, v * c or v / c with one number c (of a division: its reciprocal)."""
    if node is None or len(node.inputs) != 2:
        return None
    for position in (1, 0):
        number, other = scalar(node.inputs[position]), node.inputs[1 - position]
        if number is None or other is None:
            continue
        if is_op(node, "Div"):
            return (other, 1.0 / number) if position == 1 and number else None
        return other, number
    return None


def _times(value: ir.Value | None, number: float) -> ir.Value | None:
    """v where `value` is v times about that number."""
    found = _split(_maker(value, "Mul", "Div"))
    return found[0] if found is not None and math.isclose(found[1], number, rel_tol=_CLOSE) else None


def _plus(value: ir.Value | None, number: float) -> ir.Value | None:
    found = _split(_maker(value, "Add"))
    return found[0] if found is not None and math.isclose(found[1], number, rel_tol=_CLOSE) else None


# -- GELU -------------------------------------------------------------------------------------------------


def _erf(value: ir.Value | None) -> ir.Value | None:
    """x of 1 + Erf(x / sqrt(2))."""
    node = _maker(_plus(value, 1.0), "Erf")
    return _times(node.inputs[0], math.sqrt(0.5)) if node is not None else None


def _tanh(value: ir.Value | None) -> ir.Value | None:
    """x of 1 + Tanh(sqrt(2/pi) * (x + 0.044715 * x^3))."""
    node = _maker(_plus(value, 1.0), "Tanh")
    total = _maker(_times(node.inputs[0], math.sqrt(2 / math.pi)), "Add") if node is not None else None
    if total is None:
        return None
    for position in (0, 1):
        x = total.inputs[position]
        cubed = _maker(_times(total.inputs[1 - position], 0.044715), "Pow")
        if cubed is not None and cubed.inputs[0] is x and scalar(cubed.inputs[1]) == 3.0:
            return x
    return None


def _gelu(node: ir.Node) -> bool:
    """x * gate * 0.5 with the three factors in any order; `node` is the outermost Mul or Div."""
    if opset(node) < _GELU_SINCE or node.outputs[0].dtype not in _KINDS:
        return False
    for x, gate in _gated(node):
        for form, approximate in ((_erf, "none"), (_tanh, "tanh")):
            if x is not None and form(gate) is x and gate is not None and only_user(gate) is not None:
                result = node.outputs[0]
                new = insert(node, "Gelu", [x], {"approximate": approximate}, like=result, shape=result.shape,
                             name=f"{result.name}_gelu")  # fmt: skip
                return replace(result, new)
    return False


def _gated(node: ir.Node) -> list[tuple[ir.Value | None, ir.Value | None]]:
    """(x, gate) candidates of 0.5*(x*gate), (0.5*x)*gate and x*(0.5*gate)."""
    found: list[tuple[ir.Value | None, ir.Value | None]] = []
    product = _maker(_times(node.outputs[0], 0.5), "Mul")
    if product is not None:
        found += [(product.inputs[0], product.inputs[1]), (product.inputs[1], product.inputs[0])]
    if is_op(node, "Mul"):
        for position in (0, 1):
            one, other = node.inputs[position], node.inputs[1 - position]
            found += [(_times(one, 0.5), other), (one, _times(other, 0.5))]
    return found


# -- layer norm -------------------------------------------------------------------------------------------


def _mean(value: ir.Value | None) -> ir.Value | None:
    """v of ReduceMean(v) over the last axis, kept."""
    node = _maker(value, "ReduceMean")
    count = inferred_rank(node.inputs[0]) if node is not None else None
    if node is None or count is None or not attribute(node, "keepdims", 1):
        return None
    axes = axes_of(node)
    return node.inputs[0] if axes is not None and [axis % count for axis in axes] == [count - 1] else None


def _square(value: ir.Value | None) -> ir.Value | None:
    """v of v^2 or v*v."""
    power = _maker(value, "Pow")
    if power is not None:
        return power.inputs[0] if scalar(power.inputs[1]) == 2.0 else None
    product = _maker(value, "Mul")
    return product.inputs[0] if product is not None and product.inputs[0] is product.inputs[1] else None


def _normalized(value: ir.Value | None) -> tuple[ir.Value, float] | None:
    """(x, epsilon) of d / Sqrt(mean(d^2) + epsilon), d = x - mean(x)."""
    quotient = _maker(value, "Div")
    if quotient is None or value is None or only_user(value) is None:
        return None
    centered, root = quotient.inputs[0], _maker(quotient.inputs[1], "Sqrt")
    total = _split(_maker(root.inputs[0], "Add")) if root is not None else None
    difference = _maker(centered, "Sub")
    if total is None or difference is None or _square(_mean(total[0])) is not centered:
        return None
    x = difference.inputs[0]
    return (x, total[1]) if x is not None and _mean(difference.inputs[1]) is x else None


def _vector(value: ir.Value | None, size: object) -> bool:
    """Whether it is a constant with one number per element of the last axis."""
    found = array(value)
    return found is not None and found.ndim == 1 and found.shape[0] == size


def _layer_norm(node: ir.Node) -> bool:
    """From the Add of beta."""
    if opset(node) < _LAYER_NORM_SINCE or node.outputs[0].dtype not in _KINDS:
        return False
    for position in (0, 1):
        scaled, beta = _maker(node.inputs[position], "Mul"), node.inputs[1 - position]
        if scaled is None or only_user(scaled.outputs[0]) is not node:
            continue
        for place in (0, 1):
            found, gamma = _normalized(scaled.inputs[place]), scaled.inputs[1 - place]
            shape = inferred_shape(found[0]) if found is not None else None
            if found is not None and shape is not None and _both(gamma, beta, shape[len(shape) - 1]):
                return _write(node, found[0], gamma, beta, found[1])
    return False


def _both(gamma: ir.Value | None, beta: ir.Value | None, size: object) -> bool:
    return _vector(gamma, size) and _vector(beta, size)


def _write(node: ir.Node, x: ir.Value, gamma: ir.Value | None, beta: ir.Value | None, epsilon: float) -> bool:
    result = node.outputs[0]
    if x.dtype != result.dtype or gamma is None or gamma.dtype != result.dtype:
        return False
    new = insert(node, "LayerNormalization", [x, gamma, beta], {"axis": -1, "epsilon": epsilon}, like=result,
                 shape=result.shape, name=f"{result.name}_layer_norm")  # fmt: skip
    return replace(result, new)


RULES: tuple[tuple[str, Peephole], ...] = (
    ("Mul", _gelu),
    ("Div", _gelu),
    ("Add", _layer_norm),
)
