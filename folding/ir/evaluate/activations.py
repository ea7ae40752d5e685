"""Activations: elementwise functions with parameters, and the two softmaxes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from folding.ir.evaluate.arithmetic import Kernel, erf, on_floats
from folding.ir.evaluate.dtypes import is_float
from folding.ir.evaluate.view import NodeView, NotEvaluatedError
from folding.ir.types import Array


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def hard_sigmoid(x: Array, alpha: Any, beta: Any) -> Array:
    """Return max(0, min(1, alpha x + beta))."""
    return np.asarray(np.minimum(np.maximum(alpha * x + beta, 0), 1))


def relu(x: Array) -> Array:
    """Return max(x, 0)."""
    return np.asarray(np.maximum(x, np.zeros((), x.dtype)))


def leaky_relu(view: NodeView) -> Array:
    """x where positive, alpha x elsewhere."""
    return np.where(view.x > 0, view.x, view.x * view.number("alpha", 0.01))


def prelu(view: NodeView) -> Array:
    """x where positive, slope x elsewhere. Before opset 7 a slope (C,) belongs to axis 1."""
    x, slope = view.x, view.input(1)
    if view.opset < 7 and slope.ndim == 1 and x.ndim > 1 and slope.size > 1:
        slope = slope.reshape(-1, *(1,) * (x.ndim - 2))
    if np.broadcast_shapes(x.shape, slope.shape) != x.shape:
        raise NotEvaluatedError("PRelu: the slope does not broadcast to the input")
    return np.where(x > 0, x, x * slope)


def clip(view: NodeView) -> Array:
    """Limits as attributes (before opset 11) or inputs; the upper one wins."""
    x = view.x
    if view.opset < 11:
        low = view.number("min", 0.0) if view.has("min") else None
        high = view.number("max", 0.0) if view.has("max") else None
    else:
        low, high = view.optional(1), view.optional(2)
    y = x if low is None else np.maximum(x, low)
    return np.asarray(y if high is None else np.minimum(y, high)).astype(x.dtype, copy=False)


def elu(view: NodeView) -> Array:
    """x where positive, alpha (exp(x) - 1) elsewhere."""
    x = view.x
    return np.where(x > 0, x, view.number("alpha", 1.0) * np.expm1(np.minimum(x, 0)))


def selu(view: NodeView) -> Array:
    """gamma times elu."""
    x = view.x
    alpha, gamma = (
        view.number("alpha", 1.67326319217681884765625),
        view.number("gamma", 1.05070102214813232421875),
    )
    return np.asarray(gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))))


def celu(view: NodeView) -> Array:
    """max(0, x) + min(0, alpha (exp(x / alpha) - 1))."""
    x, alpha = view.x, view.number("alpha", 1.0)
    return np.asarray(np.maximum(x, 0) + np.minimum(0, alpha * np.expm1(np.minimum(x, 0) / alpha)))


def gelu(view: NodeView) -> Array:
    """x Phi(x), Phi the normal distribution; or its approximation by tanh."""
    x = view.x
    if view.get("approximate", "none") == "tanh":
        return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    return np.asarray(0.5 * x * (1 + erf(x / math.sqrt(2)).astype(x.dtype)))


def softplus(x: Array) -> Array:
    """Return log(1 + exp(x)), without overflow."""
    return np.asarray(np.logaddexp(x, np.zeros((), x.dtype)))


def softmax(view: NodeView) -> Array:
    """Softmax and LogSoftmax; before opset 13 over all axes from `axis` on."""
    new = view.opset >= 13
    axis = int(view.get("axis", -1 if new else 1))
    x = view.x
    if not -x.ndim <= axis <= x.ndim:
        raise NotEvaluatedError(f"{view.op_type}: axis {axis} of rank {x.ndim}")
    if not new:
        lead = x.shape[: axis + x.ndim if axis < 0 else axis]
        x, axis = x.reshape(int(np.prod(lead, dtype=np.int64)), -1), -1
    shifted = x - x.max(axis=axis, keepdims=True)
    total = np.exp(shifted).sum(axis=axis, keepdims=True)
    y = shifted - np.log(total) if view.op_type == "LogSoftmax" else np.exp(shifted) / total
    return np.asarray(y).reshape(view.x.shape)


def float_only(kernel: Callable[[NodeView], Array]) -> Kernel:
    """Return the kernel, refusing whole numbers and rationals."""

    def run(view: NodeView) -> Array:
        if not is_float(view.x.dtype):
            raise NotEvaluatedError(f"{view.op_type} of {view.x.dtype}")
        return kernel(view).astype(view.x.dtype, copy=False)

    return run


KERNELS: dict[str, Kernel] = {
    "Celu": float_only(celu),
    "Clip": clip,
    "Elu": float_only(elu),
    "Gelu": float_only(gelu),
    "HardSigmoid": lambda v: hard_sigmoid(v.x, v.number("alpha", 0.2), v.number("beta", 0.5)),
    "HardSwish": lambda v: v.x * hard_sigmoid(v.x, 1 / 6, 0.5),
    "LeakyRelu": leaky_relu,
    "LogSoftmax": float_only(softmax),
    "Mish": on_floats(lambda x: x * np.tanh(softplus(x))),
    "PRelu": prelu,
    "Relu": lambda v: relu(v.x),
    "Selu": float_only(selu),
    "Sigmoid": on_floats(sigmoid),
    "Softmax": float_only(softmax),
    "Softplus": on_floats(softplus),
    "Softsign": on_floats(lambda x: x / (1 + np.abs(x))),
    "Tanh": on_floats(np.tanh),
    "ThresholdedRelu": float_only(lambda v: np.where(v.x > v.number("alpha", 1.0), v.x, 0)),
}
