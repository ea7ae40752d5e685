"""Products and normalizations: MatMul, Gemm, BatchNormalization and its relatives.

Given:  a (..., M, K), b (..., K, N)         Result: a b (..., M, N)
"""

from __future__ import annotations

import numpy as np

from folding.ir.evaluate.arithmetic import Kernel, divide, over, square_root
from folding.ir.evaluate.dtypes import is_integer
from folding.ir.evaluate.view import NodeView, NotEvaluatedError
from folding.ir.types import Array


def matmul(view: NodeView) -> Array:
    """MatMul, as numpy's."""
    a, b = view.x, view.input(1)
    if a.ndim and b.ndim:
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        view.allow((*lead, *a.shape[-2:-1], *(b.shape[-1:] if b.ndim > 1 else ())))
    return np.asarray(np.matmul(a, b))


def gemm(view: NodeView) -> Array:
    """alpha A' B' + beta C."""
    a = view.x.T if view.flag("transA") else view.x
    b = view.input(1).T if view.flag("transB") else view.input(1)
    if a.ndim != 2 or b.ndim != 2:
        raise NotEvaluatedError("Gemm of other than matrices")
    alpha, beta, c = view.number("alpha", 1.0), view.number("beta", 1.0), view.optional(2)
    if is_integer(a.dtype) and not (alpha == 1.0 and beta == 1.0):
        raise NotEvaluatedError("Gemm of integers with factors")
    view.allow((a.shape[0], b.shape[1]))
    y = a @ b
    y = y if alpha == 1.0 else alpha * y
    if c is None:
        return np.asarray(y)
    if np.broadcast_shapes(c.shape, y.shape) != y.shape:
        raise NotEvaluatedError("Gemm: C does not broadcast to the product")
    return np.asarray(y + (c if beta == 1.0 else beta * c))


def batch_normalization(view: NodeView) -> Array:
    """gamma (x - mean) / sqrt(variance + epsilon) + beta on axis 1. Not evaluated in training mode."""
    if view.opset < 7 or view.flag("training_mode") or not view.flag("spatial", 1):
        raise NotEvaluatedError("BatchNormalization of a batch's own statistics, or per element")
    if any(view.outputs[1:]):
        raise NotEvaluatedError("BatchNormalization with statistics as outputs")
    shape = (-1, *[1] * (view.x.ndim - 2)) if view.x.ndim > 1 else (-1,)
    gamma, beta, mean, variance = (view.input(i).reshape(shape) for i in (1, 2, 3, 4))
    deviation = square_root(variance + view.number("epsilon", 1e-5))
    return np.asarray(gamma * divide(view.x - mean, deviation) + beta)


def normalized(x: Array, axes: tuple[int, ...], epsilon: float) -> tuple[Array, Array, Array]:
    """Return (x - mean) / sqrt(variance + epsilon) over some axes, the mean, and the square root."""
    count = int(np.prod([x.shape[axis] for axis in axes], dtype=np.int64))
    if count == 0:
        raise NotEvaluatedError("a mean of nothing")
    center = over(x.sum(axis=axes, keepdims=True), count)
    shifted = x - center
    variance = over((shifted * shifted).sum(axis=axes, keepdims=True), count)
    deviation = square_root(variance + epsilon)
    return divide(shifted, deviation), center, deviation


def instance_normalization(view: NodeView) -> Array:
    """scale normalized(x over space) + bias, scale and bias (C,)."""
    x = view.x
    shape = (-1, *[1] * (x.ndim - 2))
    y, _, _ = normalized(x, tuple(range(2, x.ndim)), view.number("epsilon", 1e-5))
    return np.asarray(y * view.input(1).reshape(shape) + view.input(2).reshape(shape))


def layer_normalization(view: NodeView) -> tuple[Array, Array, Array]:
    """scale normalized(x from `axis` on) + bias, the mean and the inverse deviation."""
    x, axis = view.x, int(view.get("axis", -1))
    if not -x.ndim <= axis < x.ndim:
        raise NotEvaluatedError(f"LayerNormalization from axis {axis} on, of rank {x.ndim}")
    axes = tuple(range(axis % x.ndim, x.ndim))
    y, center, deviation = normalized(x, axes, view.number("epsilon", 1e-5))
    y, bias = y * view.input(1), view.optional(2)
    return np.asarray(y if bias is None else y + bias), center, divide(np.ones_like(deviation), deviation)


def group_normalization(view: NodeView) -> Array:
    """scale normalized(x over each group of channels and space) + bias, scale and bias (C,)."""
    x, groups = view.x, int(view.get("num_groups", 0))
    if view.opset < 21 or groups < 1 or x.ndim < 2 or x.shape[1] % groups:
        raise NotEvaluatedError("GroupNormalization with parameters per group")
    parts = x.reshape(x.shape[0], groups, -1)
    y = normalized(parts, (2,), view.number("epsilon", 1e-5))[0].reshape(x.shape)
    shape = (-1, *[1] * (x.ndim - 2))
    return np.asarray(y * view.input(1).reshape(shape) + view.input(2).reshape(shape))


KERNELS: dict[str, Kernel] = {
    "BatchNormalization": batch_normalization,
    "Gemm": gemm,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "LayerNormalization": layer_normalization,
    "MatMul": matmul,
}
