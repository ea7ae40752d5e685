"""Bounds of functions of one variable: a Lipschitz constant times the error, plus the function's rounding.

The rounding of an elementary function is `c u` of its result, or of 1 where its results lie in [-1, 1]: a
provider computes it by a rational approximation whose error the standard does not limit. `c` is
`Arithmetic.functions`, from the provider's table; it is an assumption, and the report says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from folding.verify.bounds.base import Application, Array, Rule
from folding.verify.bounds.elementwise import around


def lipschitz(constant: Callable[[Application], float], floor: float = 0.0) -> Rule:
    """Return the rule `constant * e + c u max(|y|, floor)`."""

    def rule(a: Application) -> Array:
        error = constant(a) * a.x.total()
        stored = a.arithmetic.attributes * np.abs(a.y) if a.op_type in ("Elu", "Selu", "Celu") else 0.0
        return np.asarray(error + stored + function_rounding(a, error, floor))

    return rule


def function_rounding(a: Application, error: Array, floor: float) -> Array:
    """Return the rounding of an elementary function."""
    size = np.abs(a.y) + error
    return np.asarray(a.arithmetic.functions * a.u * (np.maximum(size, floor) if floor else size))


def fixed(value: float, floor: float = 0.0) -> Rule:
    """Return the rule with a constant that no attribute changes."""
    return lipschitz(lambda _: value, floor)


def piecewise(constant: Callable[[Application], float]) -> Rule:
    """Return the rule of a piecewise linear function: one product and one sum are rounded."""

    def rule(a: Application) -> Array:
        error = constant(a) * a.x.total()
        return np.asarray(error + (3 * a.u + a.arithmetic.attributes) * (np.abs(a.y) + error))

    return rule


def gated(constant: float, steepness: float) -> Rule:
    """Return the rule of x times a gate within [0, 1], whose rounding is absolute: `c u max(|x|, |y|)`.

    steepness: max |z g'(z)| of the gate, by which a relative change of its constants moves it. They are
    implicit in the operator, and float32 numbers where the gate was written out: 1/6 for HardSwish (1/2 at
    x = 3); sqrt(1/2), sqrt(2/pi) and 0.044715 for Gelu (0.25 by Erf, 0.45 by Tanh); alpha for Swish (0.23).
    """

    def rule(a: Application) -> Array:
        e = a.x.total()
        rate = a.arithmetic.functions * a.u + steepness * a.arithmetic.attributes
        return np.asarray(constant * e + rate * (np.abs(a.x.value) + e))

    return rule


def hard_sigmoid(a: Application) -> Array:
    """Return |alpha| e + 3 u (1 + 2 |beta|): where the result is inside (0, 1), |alpha x| <= 1 + |beta|."""
    slope, offset = abs(float(a.get("alpha", 0.2))), abs(float(a.get("beta", 0.5)))
    rate = 3 * a.u + a.arithmetic.attributes
    return np.asarray(slope * a.x.total() + rate * (1 + 2 * offset))


def monotone(function: Callable[[Array], Array]) -> Rule:
    """Return the rule of a monotone function without a useful Lipschitz constant."""

    def rule(a: Application) -> Array:
        error = around(a, function)
        return np.asarray(error + function_rounding(a, error, 0.0))

    return rule


def log(a: Application) -> Array:
    """Return the change of log over [x - e, x + e], inf where that reaches 0, plus c u max(|y|, 1)."""
    x, e = a.x.value, a.x.total()
    low = x - e
    error = np.where(low > 0, np.log(x / np.where(low > 0, low, 1)), np.inf) if np.any(e) else np.zeros(())
    return np.asarray(error + function_rounding(a, np.asarray(error), 1.0))


def prelu(a: Application) -> Array:
    """Return max(1, |slope|) e + |x| d_slope + u |y|."""
    slope = a.operand(1)
    e, d = a.x.total(), slope.total()
    error = np.maximum(1, np.abs(slope.value) + d) * e + np.abs(a.x.value) * d
    return np.asarray(error + a.u * (np.abs(a.y) + error))


def clip(a: Application) -> Array:
    """Return the largest error of the operand and the two limits."""
    error = a.x.total()
    for index in (1, 2):
        limit = a.optional(index)
        if limit is not None:
            error = np.maximum(error, limit.total())
    return np.asarray(error)


def softmax(a: Application) -> Array:
    """Return y (exp(2 max e) - 1) + y (gamma_{n+c} + 2 u (|x| + |max x|)), the maximum over the axis.

    Every exp(x_j) moves by a factor within exp(+-max e), so a quotient moves within exp(+-2 max e); the
    argument x - max x is rounded, which changes exp by that much relatively. LogSoftmax: without factor y.
    """
    axis, shape = softmax_axis(a)
    x, y = a.x.value.reshape(shape), a.y.reshape(shape)
    moved = np.max(np.broadcast_to(a.x.total(), a.x.value.shape).reshape(shape), axis=axis, keepdims=True)
    top = np.max(np.abs(x), axis=axis, keepdims=True)
    count = x.shape[axis] + int(a.arithmetic.functions)
    rate = a.arithmetic.gamma(count) + 2 * a.u * (np.abs(x) + top)
    if a.op_type == "LogSoftmax":
        found = 2 * moved + rate + a.u * np.abs(y)
    else:
        found = y * (np.expm1(2 * moved) * (1 + rate) + rate)
    return np.asarray(np.broadcast_to(found, shape).reshape(a.y.shape))


def softmax_axis(a: Application) -> tuple[int, tuple[int, ...]]:
    """Return the axis and the shape in which it is one axis: before opset 13 all axes from `axis` on."""
    shape = a.x.value.shape
    if a.opset >= 13:
        return int(a.get("axis", -1)), shape
    axis = int(a.get("axis", 1)) % max(1, len(shape))
    return -1, (*shape[:axis], math.prod(shape[axis:]))


def alpha(default: float, least: float = 1.0) -> Callable[[Application], float]:
    """Return max(|alpha|, least) as a constant."""
    return lambda a: max(abs(float(a.get("alpha", default))), least)


RULES: dict[str, Rule] = {
    "Sigmoid": fixed(0.25, 1.0), "Tanh": fixed(1.0, 1.0), "Erf": fixed(2 / math.sqrt(math.pi), 1.0),
    "Sin": fixed(1.0, 1.0), "Cos": fixed(1.0, 1.0), "Atan": fixed(1.0, 1.0), "Softplus": fixed(1.0, 1.0),
    "Softsign": fixed(1.0), "HardSwish": gated(1.5, 0.5), "Mish": gated(1.1, 0.0),
    "Gelu": gated(1.13, 0.5), "Swish": gated(1.1, 0.25), "Elu": lipschitz(alpha(1.0), 1.0),
    "Celu": fixed(1.0, 1.0), "Selu": lipschitz(lambda a: 1.06 * max(1.0, float(a.get("alpha", 1.6733))), 1.0),
    "HardSigmoid": hard_sigmoid, "LeakyRelu": piecewise(alpha(0.01)), "PRelu": prelu,
    "Clip": clip, "Exp": monotone(np.exp), "Log": log, "Softmax": softmax, "LogSoftmax": softmax,
}  # fmt: skip
