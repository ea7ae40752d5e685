"""Bounds of pools, reductions and order statistics.

A sum or mean of n elements: the same sum over the errors, plus gamma_n times the same sum over |x|
(Higham, (4.4), any order). A maximum or an order statistic moves by no more than the largest error.
"""

from __future__ import annotations

import math

import numpy as np

from folding.verify.bounds.base import Application, Array, Rule


def summed(a: Application) -> Array:
    """Return the sum's (or mean's) kernel on e, plus gamma_n times the kernel on |x|."""
    error = a.replaced((0, a.x.full())) if np.any(a.x.total()) else np.zeros(())
    n = math.ceil(a.x.value.size / max(1, a.y.size)) if a.op_type != "AveragePool" else window(a)
    n = a.x.value.size if a.op_type == "CumSum" else n
    g = a.arithmetic.gamma(n + 2)
    size = a.replaced((0, np.abs(a.x.value))) if a.y.dtype.kind == "f" else np.zeros(())
    return np.asarray(error + g * (size + error))


def window(a: Application) -> int:
    """Return the number of elements under the kernel."""
    return math.prod(int(k) for k in a.get("kernel_shape", [1]))


def largest(a: Application) -> Array | None:
    """Return the largest error under each window, or along each reduced axis."""
    if len(a.results) > 1 or not np.any(a.x.total()):
        return np.zeros(()) if not np.any(a.x.total()) else None
    if a.op_type == "ReduceMin":  # the smallest of all errors would be no bound
        return np.broadcast_to(np.max(a.x.total()), a.y.shape)
    return a.replaced((0, a.x.full()))


def norm(a: Application) -> Array:
    """Return the norm of the errors (triangle inequality), plus gamma_n |y|."""
    error = a.replaced((0, a.x.full())) if np.any(a.x.total()) else np.zeros(())
    n = math.ceil(a.x.value.size / max(1, a.y.size))
    return np.asarray(error + a.arithmetic.gamma(n + 3) * (np.abs(a.y) + error))


def squares(a: Application) -> Array:
    """Return sum(2 |x| e + e^2) + gamma_n y, as (sum (|x| + e)^2) - (sum x^2)."""
    grown = a.replaced((0, np.abs(a.x.value) + a.x.total())) - a.y if np.any(a.x.total()) else np.zeros(())
    n = math.ceil(a.x.value.size / max(1, a.y.size))
    return np.asarray(grown + a.arithmetic.gamma(n + 3) * (a.y + grown))


def log_sum_exp(a: Application) -> Array:
    """Return the largest error: the gradient's elements are positive and sum to 1."""
    n = math.ceil(a.x.value.size / max(1, a.y.size))
    top = np.max(np.abs(a.x.value), initial=0.0)
    return np.asarray(
        np.max(a.x.total()) + a.arithmetic.gamma(n + int(a.arithmetic.functions)) * (1 + np.abs(a.y) + top)
    )


def arg(a: Application) -> Array:
    """Return 0 where the winner is ahead by more than both errors, inf where it is not."""
    axis = int(a.get("axis", 0))
    e = a.x.full()
    sign = 1.0 if a.op_type == "ArgMax" else -1.0
    x = sign * a.x.value
    best = np.max(x - e, axis=axis, keepdims=True)
    rivals = np.sum(x + e >= best, axis=axis, keepdims=bool(a.get("keepdims", 1)))
    return np.where(rivals > 1, np.inf, 0.0).reshape(a.y.shape) if np.any(e) else np.zeros(())


def top_k(a: Application) -> tuple[Array, Array]:
    """Return the largest error for the values, and inf for indices in slices with near neighbours."""
    e = np.max(a.x.total(), initial=0.0)
    values, indices = a.results[0], a.results[1]
    if e == 0:
        return np.zeros(()), np.zeros(())
    axis = int(a.get("axis", -1))
    ordered = np.sort(a.x.value, axis=axis)
    close = np.any(np.abs(np.diff(ordered, axis=axis)) <= 2 * e, axis=axis, keepdims=True)
    undecided = np.broadcast_to(np.where(close, np.inf, 0.0), indices.shape)
    return np.broadcast_to(e, values.shape), undecided


RULES: dict[str, Rule] = {
    **dict.fromkeys(("ReduceSum", "ReduceMean", "GlobalAveragePool", "AveragePool", "CumSum"), summed),
    **dict.fromkeys(("MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin"), largest),
    **dict.fromkeys(("ReduceL1", "ReduceL2"), norm),
    "ReduceSumSquare": squares, "ReduceLogSumExp": log_sum_exp, "ArgMax": arg, "ArgMin": arg, "TopK": top_k,
}  # fmt: skip
