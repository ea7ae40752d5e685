"""Operators that we evaluate ourselves: those that nearly every network has, and those that must be fast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from folding.verify.float64 import windows
from folding.verify.float64.node import Node

Array = np.ndarray
Kernel = Callable[[Node], Any]
FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)


def unary(function: Callable[[Array], Array]) -> Kernel:
    """y = f(x)."""
    return lambda node: np.asarray(function(node.x))


def binary(function: Callable[[Array, Array], Array]) -> Kernel:
    """y = f(a, b) with numpy broadcasting (opset 7 and later)."""

    def run(node: Node) -> Array | None:
        return np.asarray(function(node.x, node.operand(1))) if node.opset >= 7 else None

    return run


def variadic(function: Callable[[Array, Array], Array]) -> Kernel:
    """Sum, Max, Min of any number of operands."""

    def run(node: Node) -> Array:
        total = node.x
        for i in range(1, len(node.operands)):
            total = function(total, node.operand(i))
        return total

    return run


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def divide(a: Array, b: Array) -> Array:
    """Truncating for integers, as ONNX asks."""
    if a.dtype.kind in "iu":
        return np.asarray(np.trunc(a / b).astype(a.dtype))
    return np.asarray(a / b)


def batch_normalization(node: Node) -> Array | None:
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta on axis 1; None in training mode."""
    if node.get("training_mode", 0) or len(node.proto.output) > 1 or not node.get("spatial", 1):
        return None
    shape = (-1, *[1] * (node.x.ndim - 2)) if node.x.ndim > 1 else (-1,)
    gamma, beta, mean, variance = (node.operand(i).reshape(shape) for i in (1, 2, 3, 4))
    epsilon = float(np.float32(node.get("epsilon", 1e-5)))
    return np.asarray(gamma * ((node.x - mean) / np.sqrt(variance + epsilon)) + beta)


def gemm(node: Node) -> Array:
    """alpha * A' B' + beta * C."""
    a = node.x.T if node.get("transA", 0) else node.x
    b = node.operand(1).T if node.get("transB", 0) else node.operand(1)
    y = float(np.float32(node.get("alpha", 1.0))) * (a @ b)
    c = node.optional(2)
    return np.asarray(y if c is None else y + float(np.float32(node.get("beta", 1.0))) * c)


def softmax(node: Node) -> Array:
    """Softmax and LogSoftmax; before opset 13 over all axes from `axis` on."""
    new = node.opset >= 13
    axis = int(node.get("axis", -1 if new else 1))
    x = node.x if new else node.x.reshape(*node.x.shape[: axis % max(1, node.x.ndim)], -1)
    axis = axis if new else -1
    shifted = x - x.max(axis=axis, keepdims=True)
    total = np.exp(shifted).sum(axis=axis, keepdims=True)
    y = shifted - np.log(total) if node.proto.op_type == "LogSoftmax" else np.exp(shifted) / total
    return np.asarray(y).reshape(node.x.shape)


def clip(node: Node) -> Array:
    """Limits as attributes (before opset 11) or operands."""
    low, high = node.get("min"), node.get("max")
    if node.opset >= 11:
        low, high = node.optional(1), node.optional(2)
    y = node.x if low is None else np.maximum(node.x, low)
    return np.asarray(y if high is None else np.minimum(y, high))


def cast(node: Node) -> Array:
    """To any float: float64 stays. To the rest: numpy's conversion."""
    to = node.get("to")
    if to in FLOATS:
        return node.x.astype(np.float64)
    if to == TensorProto.STRING:
        raise TypeError("casts to strings depend on the float's width")
    return node.x.astype(helper.tensor_dtype_to_np_dtype(to))


def constant(node: Node) -> Array | None:
    """Tensor, number and list forms."""
    value = node.get("value")
    if value is not None:
        array = np.asarray(numpy_helper.to_array(value))
        return array.astype(np.float64) if array.dtype.kind == "f" else array
    for name, kind in (("value_float", np.float64), ("value_floats", np.float64), ("value_int", np.int64),
                       ("value_ints", np.int64)):  # fmt: skip
        if node.get(name) is not None:
            return np.asarray(node.get(name), kind)
    return None


def reshape(node: Node) -> Array:
    """0 copies a dimension (unless allowzero), -1 is inferred."""
    shape = node.ints("shape", 1) or []
    if not node.get("allowzero", 0):
        shape = [node.x.shape[i] if d == 0 else d for i, d in enumerate(shape)]
    return node.x.reshape(shape)


def flatten(node: Node) -> Array:
    """To a matrix at `axis`."""
    axis = int(node.get("axis", 1))
    axis = axis + node.x.ndim if axis < 0 else axis
    return node.x.reshape(int(np.prod(node.x.shape[:axis], dtype=np.int64)), -1)


def squeeze(node: Node) -> Array:
    """Drop axes of length 1."""
    axes = node.ints("axes", 1)
    return np.squeeze(node.x, axis=None if axes is None else tuple(axes))


def unsqueeze(node: Node) -> Array:
    """Insert axes of length 1."""
    axes = node.ints("axes", 1) or []
    return np.expand_dims(node.x, tuple(axes))


def transpose(node: Node) -> Array:
    """Permute axes; reversed by default."""
    return node.x.transpose(node.get("perm"))


def concat(node: Node) -> Array:
    """Join along an axis."""
    return np.concatenate([node.operand(i) for i in range(len(node.operands))], axis=int(node.get("axis", 1)))


def pad(node: Node) -> Array | None:
    """Constant padding with non-negative widths over all axes; the rest is borrowed."""
    pads, mode = node.ints("pads", 1) or [], node.get("mode", "constant")
    if mode != "constant" or min(pads, default=0) < 0 or len(pads) != 2 * node.x.ndim:
        return None
    value = node.get("value", 0.0) if node.opset < 11 else node.optional(2)
    half = len(pads) // 2
    widths = list(zip(pads[:half], pads[half:], strict=True))
    return np.pad(node.x, widths, constant_values=0.0 if value is None else np.ravel(value)[0])


def reduction(function: Callable[..., Array]) -> Kernel:
    """ReduceX with axes as attribute or operand."""

    def run(node: Node) -> Array:
        axes = node.ints("axes", 1)
        if axes is None and node.get("noop_with_empty_axes", 0):
            return node.x
        axis = tuple(axes) if axes else None
        return np.asarray(function(node.x, axis=axis, keepdims=bool(node.get("keepdims", 1))))

    return run


def over_space(function: Callable[..., Array]) -> Kernel:
    """Global pools."""
    return lambda node: np.asarray(function(node.x, axis=tuple(range(2, node.x.ndim)), keepdims=True))


def pooled(node: Node) -> Array | None:
    """Pools; ceil_mode and the index output are borrowed."""
    return None if node.get("ceil_mode", 0) or len(node.proto.output) > 1 else windows.pool(node)


def prelu(node: Node) -> Array:
    """x where positive, slope * x elsewhere."""
    return np.where(node.x > 0, node.x, node.x * node.operand(1))


def hard_sigmoid(x: Array, alpha: float, beta: float) -> Array:
    """max(0, min(1, alpha x + beta))."""
    return np.asarray(np.clip(alpha * x + beta, 0, 1))


def elu(node: Node) -> Array:
    """x where positive, alpha (exp(x) - 1) elsewhere."""
    return np.where(node.x > 0, node.x, node.get("alpha", 1.0) * np.expm1(np.minimum(node.x, 0)))


def identity_first(node: Node) -> Array | None:
    """Dropout at inference; its mask output is borrowed."""
    training = node.optional(2)
    return None if len(node.proto.output) > 1 or (training is not None and bool(training)) else node.x


KERNELS: dict[str, Kernel] = {
    "Abs": unary(np.abs), "Neg": unary(np.negative), "Exp": unary(np.exp), "Log": unary(np.log),
    "Sqrt": unary(np.sqrt), "Reciprocal": unary(np.reciprocal), "Tanh": unary(np.tanh),
    "Sigmoid": unary(sigmoid), "Relu": unary(lambda x: np.maximum(x, 0)), "Identity": unary(np.asarray),
    "Softplus": unary(lambda x: np.logaddexp(0, x)), "Softsign": unary(lambda x: x / (1 + np.abs(x))),
    "HardSwish": unary(lambda x: x * hard_sigmoid(x, 1 / 6, 0.5)),
    "HardSigmoid": lambda n: hard_sigmoid(n.x, n.get("alpha", 0.2), n.get("beta", 0.5)),
    "LeakyRelu": lambda n: np.where(n.x > 0, n.x, n.x * float(np.float32(n.get("alpha", 0.01)))),
    "PRelu": prelu, "Elu": elu, "Add": binary(np.add), "Sub": binary(np.subtract), "Mul": binary(np.multiply),
    "Div": binary(divide), "Sum": variadic(np.add), "Max": variadic(np.maximum), "Min": variadic(np.minimum),
    "MatMul": binary(np.matmul), "Gemm": gemm, "Conv": windows.conv, "ConvTranspose": windows.conv_transpose,
    "BatchNormalization": batch_normalization, "MaxPool": pooled, "AveragePool": pooled,
    "GlobalAveragePool": over_space(np.mean), "GlobalMaxPool": over_space(np.max), "Softmax": softmax,
    "LogSoftmax": softmax, "Clip": clip, "Cast": cast, "Constant": constant, "Reshape": reshape,
    "Flatten": flatten, "Squeeze": squeeze, "Unsqueeze": unsqueeze, "Transpose": transpose, "Concat": concat,
    "Pad": pad, "Dropout": identity_first, "ReduceMean": reduction(np.mean), "ReduceSum": reduction(np.sum),
    "ReduceMax": reduction(np.max), "ReduceMin": reduction(np.min),
}  # fmt: skip
