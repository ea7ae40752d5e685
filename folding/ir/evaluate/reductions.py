"""Reductions: over axes that are an attribute in old opsets and an input in new ones.

The result has the type of what is reduced. Which of several equal elements ArgMax takes, `select_last_index`
says; where a NaN is among them, runtimes disagree and nothing is evaluated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from folding.ir.evaluate.arithmetic import Kernel, over, square_root
from folding.ir.evaluate.dtypes import is_float, is_integer, is_rational
from folding.ir.evaluate.view import NodeView, NotEvaluatedError
from folding.ir.types import Array

Reducer = Callable[[Array, tuple[int, ...]], Any]


def reduction(function: Reducer, *, floats_only: bool = False, plain: bool = True) -> Kernel:
    """Return the kernel of y = f(x over axes).

    floats_only: whole numbers are not evaluated (how runtimes round them differs).
    plain: with `noop_with_empty_axes` x itself is the result; where it is not, nothing is evaluated.
    """

    def run(view: NodeView) -> Array:
        x, axes = view.x, view.ints("axes", 1)
        if not axes and view.flag("noop_with_empty_axes"):
            if not plain:
                raise NotEvaluatedError(f"{view.op_type} over no axis: runtimes disagree")
            return x
        if floats_only and is_integer(x.dtype):
            raise NotEvaluatedError(f"{view.op_type} of {x.dtype}")
        over_axes = normal_axes(axes, x.ndim) if axes else tuple(range(x.ndim))
        y = np.asarray(function(x, over_axes)).astype(x.dtype, copy=False)
        return y if view.flag("keepdims", 1) else y.reshape(_dropped(x.shape, over_axes))

    return run


def normal_axes(axes: list[int], rank: int) -> tuple[int, ...]:
    """Return axes as non-negative numbers. Raises NotEvaluatedError for one that is wrong or named twice."""
    if any(not -rank <= axis < rank for axis in axes):
        raise NotEvaluatedError(f"axes {axes} of rank {rank}")
    found = tuple(axis % rank for axis in axes)
    if len(set(found)) != len(found):
        raise NotEvaluatedError(f"axes {axes} name one axis twice")
    return found


def _dropped(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def total(x: Array, axes: tuple[int, ...]) -> Array:
    """Return the sum in the type of x, axes kept."""
    return np.asarray(np.sum(x, axis=axes, keepdims=True, dtype=x.dtype))


def average(x: Array, axes: tuple[int, ...]) -> Array:
    """Return the mean, axes kept. Raises NotEvaluatedError for none."""
    count = int(np.prod([x.shape[axis] for axis in axes], dtype=np.int64))
    if count == 0:
        raise NotEvaluatedError("a mean of nothing")
    return over(total(x, axes), count)


def log_sum_exp(x: Array, axes: tuple[int, ...]) -> Array:
    """Return log(sum(exp(x))), without overflow."""
    highest = np.max(x, axis=axes, keepdims=True)
    highest = np.where(np.isfinite(highest), highest, 0)
    return np.asarray(np.log(total(np.exp(x - highest), axes)) + highest)


def arg(largest: bool) -> Kernel:
    """Return the kernel of ArgMax or ArgMin."""

    def run(view: NodeView) -> Array:
        x = view.x
        (axis,) = normal_axes([int(view.get("axis", 0))], x.ndim)
        if is_float(x.dtype) and np.isnan(x.astype(np.float64)).any():
            raise NotEvaluatedError(f"{view.op_type} with NaN")
        last = view.flag("select_last_index")
        data = np.flip(x, axis) if last else x
        found = np.argmax(data, axis) if largest else np.argmin(data, axis)
        found = x.shape[axis] - 1 - found if last else found
        found = np.asarray(found, dtype=np.int64)
        return np.expand_dims(found, axis) if view.flag("keepdims", 1) else found

    return run


def top_k(view: NodeView) -> tuple[Array, Array]:
    """TopK: of equal elements the one of the lower index comes first."""
    x = view.x
    (axis,) = normal_axes([int(view.get("axis", -1))], x.ndim)
    count = int(view.get("k")) if view.has("k") else int(view.input(1).reshape(-1)[0])
    if not view.flag("sorted", 1) or not 0 <= count <= x.shape[axis]:
        raise NotEvaluatedError("TopK unsorted, or of more than there are")
    if is_float(x.dtype) and np.isnan(x.astype(np.float64)).any():
        raise NotEvaluatedError("TopK with NaN")
    if view.flag("largest", 1):
        flipped = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
        order = np.flip(x.shape[axis] - 1 - flipped, axis)
    else:
        order = np.argsort(x, axis=axis, kind="stable")
    chosen = order.take(np.arange(count), axis=axis).astype(np.int64)
    return np.take_along_axis(x, chosen, axis), chosen


def over_space(function: Reducer) -> Kernel:
    """Return the kernel of a global pool."""

    def run(view: NodeView) -> Array:
        if is_integer(view.x.dtype) or view.x.ndim < 3:
            raise NotEvaluatedError(f"{view.op_type} of {view.x.dtype} of rank {view.x.ndim}")
        return np.asarray(function(view.x, tuple(range(2, view.x.ndim))))

    return run


def largest(x: Array, axes: tuple[int, ...]) -> Array:
    """Return the maximum, axes kept. Raises ValueError for none."""
    return np.asarray(np.max(x, axis=axes, keepdims=True)) if axes else x


def smallest(x: Array, axes: tuple[int, ...]) -> Array:
    """Return the minimum, axes kept. Raises ValueError for none."""
    return np.asarray(np.min(x, axis=axes, keepdims=True)) if axes else x


def product(x: Array, axes: tuple[int, ...]) -> Array:
    """Return the product in the type of x, axes kept."""
    return np.asarray(np.prod(x, axis=axes, keepdims=True, dtype=None if is_rational(x) else x.dtype))


KERNELS: dict[str, Kernel] = {
    "ArgMax": arg(largest=True),
    "ArgMin": arg(largest=False),
    "GlobalAveragePool": over_space(average),
    "GlobalMaxPool": over_space(largest),
    "ReduceL1": reduction(lambda x, a: total(np.abs(x), a), plain=False),
    "ReduceL2": reduction(lambda x, a: square_root(total(x * x, a)), floats_only=True, plain=False),
    "ReduceLogSum": reduction(lambda x, a: np.log(total(x, a)), floats_only=True, plain=False),
    "ReduceLogSumExp": reduction(log_sum_exp, floats_only=True, plain=False),
    "ReduceMax": reduction(largest),
    "ReduceMean": reduction(average, floats_only=True),
    "ReduceMin": reduction(smallest),
    "ReduceProd": reduction(product),
    "ReduceSum": reduction(total),
    "ReduceSumSquare": reduction(lambda x, a: total(x * x, a), plain=False),
    "TopK": top_k,
}
