"""Elementwise arithmetic and comparisons: y = f(a, b) with broadcasting.

Given:  a (…), b (…) of shapes that broadcast            Result: y of the broadcast shape
Whole numbers: quotients are cut towards zero, sums and products wrap, as C does.
Rationals: quotients, whole powers and roots that are rational stay rational; the rest is not evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np

from folding.ir.evaluate.dtypes import compatible, is_float, is_integer, is_rational
from folding.ir.evaluate.view import NodeView, NotEvaluatedError
from folding.ir.types import Array

Kernel = Callable[[NodeView], Any]


def unary(function: Callable[[Array], Any]) -> Kernel:
    """Return the kernel of y = f(x)."""
    return lambda view: np.asarray(function(view.x))


def on_floats(function: Callable[[Array], Any]) -> Kernel:
    """Return the kernel of y = f(x) for an operator of floats only."""

    def run(view: NodeView) -> Array:
        if not is_float(view.x.dtype):
            raise NotEvaluatedError(f"{view.op_type} of {view.x.dtype}")
        return np.asarray(function(view.x))

    return run


def binary(function: Callable[[Array, Array], Any]) -> Kernel:
    """Return the kernel of y = f(a, b). Before opset 7 `axis` says where b lines up with a."""

    def run(view: NodeView) -> Array:
        a, b = operands(view)
        view.allow(np.broadcast_shapes(a.shape, b.shape))
        return np.asarray(function(a, b))

    return run


def operands(view: NodeView) -> tuple[Array, Array]:
    """Return both operands, b with the axes that the broadcasting of old opsets asks for."""
    a, b = view.x, view.input(1)
    if view.op_type != "Pow" and not compatible(a, b):
        raise NotEvaluatedError(f"{view.op_type} of {a.dtype} and {b.dtype}")
    axis = view.get("axis")
    if axis is not None and view.opset < 7 and b.ndim:
        b = b.reshape(b.shape + (1,) * (a.ndim - int(axis) % max(1, a.ndim) - b.ndim))
    return a, b


def variadic(function: Callable[[Array, Array], Any]) -> Kernel:
    """Return the kernel of an operator that joins any number of operands from left to right."""
    return lambda view: joined(view, function)


def joined(view: NodeView, function: Callable[[Array, Array], Any]) -> Array:
    """Return f(f(a, b), c) ... of all operands."""
    total = view.x
    for index in range(1, len(view.inputs)):
        other = view.input(index)
        view.allow(np.broadcast_shapes(total.shape, other.shape))
        total = np.asarray(function(total, other))
    return total


def divide(a: Array, b: Array) -> Array:
    """Return a / b: towards zero for integers, exact for rationals. Raises ZeroDivisionError."""
    if is_integer(a.dtype):
        if not b.all():
            raise ZeroDivisionError("integer division by zero")
        short = (np.remainder(a, b) != 0) & ((a < 0) != (b < 0))  # numpy rounds down
        return np.asarray(np.floor_divide(a, b) + short.astype(a.dtype))
    if is_rational(a) or is_rational(b):
        return np.asarray(_quotient(a, b), dtype=object)
    return np.asarray(a / b)


_quotient = np.frompyfunc(lambda a, b: Fraction(a) / Fraction(b), 2, 1)
_root = np.frompyfunc(lambda x: _rational_root(Fraction(x)), 1, 1)
_power = np.frompyfunc(lambda x, n: _rational_power(Fraction(x), Fraction(n)), 2, 1)


def square_root(x: Array) -> Array:
    """Return the root. Rationals: the exact one. Raises NotEvaluatedError where that is irrational."""
    return np.asarray(_root(x), dtype=object) if is_rational(x) else np.asarray(np.sqrt(x))


def _rational_root(x: Fraction) -> Fraction:
    if x >= 0:
        root = Fraction(math.isqrt(x.numerator), math.isqrt(x.denominator))
        if root * root == x:
            return root
    raise NotEvaluatedError(f"the root of {x} is not rational")


def _rational_power(x: Fraction, exponent: Fraction) -> Fraction:
    if exponent == Fraction(1, 2):
        return _rational_root(x)
    if exponent.denominator != 1 or abs(exponent) > 64:
        raise NotEvaluatedError(f"{x} to the power {exponent} is not computed exactly")
    return Fraction(x**exponent.numerator)


def power(base: Array, exponent: Array) -> Array:
    """Return base ** exponent in the type of the base."""
    if is_rational(base):
        return np.asarray(_power(base, exponent), dtype=object)
    if not is_integer(base.dtype):
        return np.asarray(np.power(base, exponent)).astype(base.dtype)
    wide = np.trunc(np.power(base.astype(np.float64), exponent.astype(np.float64)))
    return whole(wide, base.dtype)


def whole(values: Array, dtype: np.dtype[Any]) -> Array:
    """Return float64 whole numbers as integers. Raises NotEvaluatedError where the type is too narrow."""
    info = np.iinfo(dtype)
    if not np.all((values >= max(info.min, -(2**53))) & (values <= min(info.max, 2**53))):
        raise NotEvaluatedError(f"a number that {dtype} does not hold")
    return values.astype(dtype)


def mean(view: NodeView) -> Array:
    """Mean of any number of operands."""
    return over(joined(view, np.add), len(view.inputs))


def over(total: Array, count: Any) -> Array:
    """Return total / count for floats and rationals, in the type of the total."""
    if is_rational(total):
        return np.asarray(_quotient(total, count), dtype=object)
    if not is_float(total.dtype):
        raise NotEvaluatedError(f"a mean of {total.dtype}")
    return np.asarray(total / np.asarray(count).astype(total.dtype))


def modulo(view: NodeView) -> Array:
    """Mod: the sign of the divisor for integers, of the dividend with fmod=1 (which floats must have)."""
    a, b = operands(view)
    truncated = view.flag("fmod")
    if is_float(a.dtype) != truncated and is_float(a.dtype):
        raise NotEvaluatedError("Mod of floats without fmod")
    if is_integer(a.dtype) and not b.all():
        raise ZeroDivisionError("integer division by zero")
    view.allow(np.broadcast_shapes(a.shape, b.shape))
    return np.asarray(np.fmod(a, b) if truncated else np.mod(a, b))


def negative(x: Array) -> Array:
    """Return -x; unsigned numbers have none."""
    if x.dtype.kind in "ub":
        raise NotEvaluatedError(f"Neg of {x.dtype}")
    return np.asarray(np.negative(x))


def sign(x: Array) -> Array:
    """Return -1, 0 or 1."""
    return np.asarray(np.where(x > 0, 1, np.where(x < 0, -1, 0)).astype(x.dtype)) if is_rational(x) else (
        np.asarray(np.sign(x))
    )  # fmt: skip


def logical(function: Callable[[Array, Array], Any]) -> Kernel:
    """Return the kernel of an operator of truth values."""

    def run(view: NodeView) -> Array:
        if view.x.dtype != np.bool_:
            raise NotEvaluatedError(f"{view.op_type} of {view.x.dtype}")
        return np.asarray(binary(function)(view))

    return run


def comparison(function: Callable[[Array, Array], Any]) -> Kernel:
    """Return the kernel of an operator whose result is truth values."""
    return lambda view: np.asarray(binary(function)(view)).astype(np.bool_)


def where(view: NodeView) -> Array:
    """Where(condition, a, b)."""
    condition, a, b = view.x, view.input(1), view.input(2)
    if condition.dtype != np.bool_ or not compatible(a, b):
        raise NotEvaluatedError(f"Where of {condition.dtype}, {a.dtype} and {b.dtype}")
    view.allow(np.broadcast_shapes(condition.shape, a.shape, b.shape))
    return np.asarray(np.where(condition, a, b))


def invert(x: Array) -> Array:
    """Return not x."""
    if x.dtype != np.bool_:
        raise NotEvaluatedError(f"Not of {x.dtype}")
    return np.asarray(np.logical_not(x))


def infinite(view: NodeView) -> Array:
    """IsInf: of which signs is told by two attributes."""
    x = view.x
    if not is_float(x.dtype):
        raise NotEvaluatedError(f"IsInf of {x.dtype}")
    below = view.flag("detect_negative", 1) & np.isneginf(x.astype(np.float64))
    return np.asarray((view.flag("detect_positive", 1) & np.isposinf(x.astype(np.float64))) | below)


erf = np.vectorize(math.erf, otypes=[np.float64])

KERNELS: dict[str, Kernel] = {
    "Abs": unary(np.abs),
    "Add": binary(np.add),
    "And": logical(np.logical_and),
    "Ceil": on_floats(np.ceil),
    "Acos": on_floats(np.arccos),
    "Acosh": on_floats(np.arccosh),
    "Asin": on_floats(np.arcsin),
    "Asinh": on_floats(np.arcsinh),
    "Atan": on_floats(np.arctan),
    "Atanh": on_floats(np.arctanh),
    "Cos": on_floats(np.cos),
    "Cosh": on_floats(np.cosh),
    "Sinh": on_floats(np.sinh),
    "Tan": on_floats(np.tan),
    "Div": binary(divide),
    "Equal": comparison(np.equal),
    "Erf": on_floats(lambda x: erf(x).astype(x.dtype)),
    "Exp": on_floats(np.exp),
    "Floor": on_floats(np.floor),
    "Greater": comparison(np.greater),
    "GreaterOrEqual": comparison(np.greater_equal),
    "IsInf": infinite,
    "IsNaN": on_floats(np.isnan),
    "Less": comparison(np.less),
    "LessOrEqual": comparison(np.less_equal),
    "Log": on_floats(np.log),
    "Max": variadic(np.maximum),
    "Mean": mean,
    "Min": variadic(np.minimum),
    "Mod": modulo,
    "Mul": binary(np.multiply),
    "Neg": unary(negative),
    "Not": unary(invert),
    "Or": logical(np.logical_or),
    "Pow": binary(power),
    "Reciprocal": unary(lambda x: divide(np.ones_like(x), x)),
    "Round": on_floats(np.rint),
    "Sign": unary(sign),
    "Sin": on_floats(np.sin),
    "Sqrt": unary(square_root),
    "Sub": binary(np.subtract),
    "Sum": variadic(np.add),
    "Where": where,
    "Xor": logical(np.logical_xor),
}
