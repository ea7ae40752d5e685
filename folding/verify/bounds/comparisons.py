"""Bounds of decisions: exact where the arguments are further apart than their errors, else undecided.

An undecided element of a comparison has the error inf; one of a rounding step has the number of steps that
its argument may cross. Undecided elements are counted and reported; they are never a failure.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from folding.ir.evaluate.quantization import per_axis
from folding.verify.bounds.base import ZERO, Application, Array, Rule
from folding.verify.bounds.movement import cast


def compare(a: Application) -> Array:
    """Return inf where |a - b| <= e_a + e_b."""
    one, two = a.operand(0), a.operand(1)
    e = one.total() + two.total()
    if not np.any(e):
        return ZERO
    near = np.abs(one.value.astype(np.float64) - two.value.astype(np.float64)) <= e
    return np.where(near & (e > 0), np.inf, 0.0)


def logic(a: Application) -> Array:
    """Return inf where any operand is undecided."""
    undecided = ZERO
    for operand in a.operands:
        if operand is not None:
            undecided = np.maximum(undecided, operand.total())
    return np.asarray(undecided)


def step(function: Callable[[Array], Array]) -> Rule:
    """Return the rule of a monotone step function: how far it moves over [x - e, x + e]."""

    def rule(a: Application) -> Array:
        x, e = a.x.value, a.x.total()
        if not np.any(e):
            return ZERO
        y = function(x)
        return np.asarray(np.maximum(function(x + e) - y, y - function(x - e)))

    return rule


def cast_any(a: Application) -> Array | None:
    """Return the bound of Cast: to floats by rounding, to integers and booleans by steps."""
    found = cast(a)
    if found is not None or not np.any(a.x.total()):
        return ZERO if found is None else found
    if a.y.dtype.kind == "b":
        return np.where(np.abs(a.x.value) <= a.x.total(), np.inf, 0.0)
    return step(np.trunc)(a)  # type: ignore[return-value]


def quantize(a: Application) -> Array | None:
    """Return the steps that QuantizeLinear may move over [x - e, x + e]."""
    if any(o is not None and not o.exact and i for i, o in enumerate(a.operands)):
        parameters = [o for i, o in enumerate(a.operands) if o is not None and i]
        if any(np.any(o.error) for o in parameters):
            return None
    e = a.x.total()
    if not np.any(e):
        return ZERO
    y = a.y.astype(np.float64)
    up = a.replaced((0, a.x.value + e)).astype(np.float64)
    down = a.replaced((0, a.x.value - e)).astype(np.float64)
    return np.asarray(np.maximum(up - y, y - down))


def dequantize(a: Application) -> Array | None:
    """Return |scale|, per tensor or per axis, times the steps that the operand may be off by, plus u |y|."""
    scale = a.operand(1)
    e = a.x.total()
    if np.any(e) and scale.value.size != 1:
        return None
    rank = a.x.value.ndim
    if scale.value.ndim > 1:  # in blocks: e is 0, so only the rounding is left
        return np.asarray((2 * a.u + scale.relative) * np.abs(a.y))
    step_size = np.abs(per_axis(scale.value, rank, int(a.get("axis", 1))))
    return np.asarray(step_size * e + (2 * a.u + scale.relative) * (np.abs(a.y) + step_size * e))


RULES: dict[str, Rule] = {
    **dict.fromkeys(("Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Equal"), compare),
    **dict.fromkeys(("And", "Or", "Xor", "Not"), logic),
    "Round": step(np.round), "Floor": step(np.floor), "Ceil": step(np.ceil), "Sign": step(np.sign),
    "Cast": cast_any, "QuantizeLinear": quantize, "DequantizeLinear": dequantize,
}  # fmt: skip
