"""Bounds of elementwise arithmetic: first-order propagation plus the product of the errors, plus `u |y|`.

Every operation rounds its exact result once (Higham, (2.4)): fl(a op b) = (a op b)(1 + d), |d| <= u.
"""

from __future__ import annotations

import numpy as np

from folding.verify.bounds.base import Application, Array, Rule


def rounded(a: Application, error: Array, times: float = 1.0) -> Array:
    """Return the propagated error plus the rounding of the result: `times * u (|y| + error)`."""
    return np.asarray(error + times * a.u * (np.abs(a.y) + error))


def add(a: Application) -> Array:
    """Return e_a + e_b + u (|y| + e_a + e_b)."""
    return rounded(a, np.asarray(a.operand(0).total() + a.operand(1).total()))


def mul(a: Application) -> Array:
    """Return |a| e_b + |b| e_a + e_a e_b + u (...). One factor may be rounded first (TF32 does not here)."""
    one, two = a.operand(0), a.operand(1)
    e, f = one.total(), two.total()
    return rounded(a, np.asarray(np.abs(one.value) * f + np.abs(two.value) * e + e * f))


def div(a: Application) -> Array | None:
    """Return (e_a + |y| e_b) / (|b| - e_b) + 3 u (...); inf where the divisor may be zero.

    Three roundings, not one: a kernel may multiply by the reciprocal of the divisor, which is itself off by
    up to two units (ONNX Runtime's CPU kernel does so for some shapes; 1.5 u was measured).
    """
    one, two = a.operand(0), a.operand(1)
    if a.y.dtype.kind != "f":
        return None
    e, f = one.total(), two.total()
    room = np.abs(two.value) - f
    error = np.where(room > 0, (e + np.abs(a.y) * f) / np.where(room > 0, room, 1), np.inf)
    if not np.any(f) and not np.any(e):
        error = np.zeros(())
    return rounded(a, np.asarray(error), 3)


def total(a: Application) -> Array:
    """Return the sum of the errors (Sum, Mean of n operands) plus n - 1 roundings of the absolute sum."""
    operands = [o for o in a.operands if o is not None]
    share = 1 / len(operands) if a.op_type == "Mean" else 1.0
    error = np.asarray(share * sum(o.total() for o in operands))
    size = np.asarray(share * sum(np.abs(o.value) for o in operands))
    g = a.arithmetic.gamma(len(operands) + 1) if a.y.dtype.kind == "f" else 0.0
    return np.asarray(error + g * (size + error))


def largest(a: Application) -> Array:
    """Return the largest error of the operands: Max and Min are 1-Lipschitz in the maximum norm."""
    error = a.operand(0).total()
    for operand in a.operands[1:]:
        if operand is not None:
            error = np.maximum(error, operand.total())
    return np.asarray(error)


def same(a: Application) -> Array:
    """Return the operand's error: Abs, Neg, Identity, Relu do not enlarge it and do not round."""
    return a.x.total()


def sqrt(a: Application) -> Array:
    """Return the change of the square root over [x - e, x + e], which is monotone, plus u |y|."""
    return rounded(a, around(a, lambda v: np.sqrt(np.maximum(v, 0))))


def reciprocal(a: Application) -> Array:
    """Return |y| e / (|x| - e) + u |y|; inf where x may be zero."""
    e = a.x.total()
    room = np.abs(a.x.value) - e
    error = np.where(room > 0, np.abs(a.y) * e / np.where(room > 0, room, 1), np.inf)
    return rounded(a, np.asarray(error) if np.any(e) else np.zeros(()), 2)


def power(a: Application) -> Array | None:
    """Return the change of x^p over [x - e, x + e], p a constant, plus the function's rounding."""
    base, exponent = a.operand(0), a.operand(1)
    if not (exponent.error.ndim == 0 and not exponent.error) or exponent.value.size != 1:
        return None
    p = float(exponent.value.ravel()[0])
    x, e = base.value, base.total()
    size = np.abs(x)
    if p == 0:
        error = np.zeros(())
    elif p > 0 and p == int(p):
        error = np.asarray((size + e) ** p - size**p)
    elif p > 0:
        error = around(a, lambda v: np.maximum(v, 0) ** p)
    else:
        low = np.maximum(size - e, 0)
        error = np.where(low > 0, np.where(low > 0, low, 1) ** p - size**p, np.inf)
    return rounded(a, error, a.arithmetic.functions)


def around(a: Application, function: object) -> Array:
    """Return how far a monotone function moves over [x - e, x + e]."""
    x, e = a.x.value, a.x.total()
    if not np.any(e):
        return np.zeros(())
    f = function
    y = f(x)  # type: ignore[operator]
    up, down = f(x + e), f(x - e)  # type: ignore[operator]
    return np.asarray(np.maximum(np.abs(up - y), np.abs(y - down)))


RULES: dict[str, Rule] = {
    "Add": add, "Sub": add, "Mul": mul, "Div": div, "Sum": total, "Mean": total, "Max": largest,
    "Min": largest, "Abs": same, "Neg": same, "Identity": same, "Relu": same, "Dropout": same, "Sqrt": sqrt,
    "Reciprocal": reciprocal, "Pow": power,
}  # fmt: skip
