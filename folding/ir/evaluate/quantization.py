"""QuantizeLinear and DequantizeLinear of every version: per tensor, per axis, in blocks.

Given:  x (...), scale and zero point () or (1,), (C,) on `axis`, or blocked on `axis`
Result: saturate(round(x / scale) + zero)      (q - zero) * scale
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
from onnx import helper

from folding.ir.evaluate.arithmetic import Kernel
from folding.ir.evaluate.dtypes import is_float, is_integer, is_rational
from folding.ir.evaluate.view import NodeView, NotEvaluatedError
from folding.ir.types import Array


def quantize(view: NodeView) -> Array:
    """Divide in float32 and round half to even, as runtimes do. To 8-bit floats: not evaluated."""
    x, like = view.x, view.optional(2)
    if like is None:
        to = int(view.get("output_dtype", 0))
        like = np.zeros((), helper.tensor_dtype_to_np_dtype(to) if to else np.uint8)
    if not is_integer(like.dtype) or is_rational(x) or int(view.get("precision", 0)):
        raise NotEvaluatedError(f"QuantizeLinear of {x.dtype} to {like.dtype}")
    scale, zero = parameter(view, view.input(1)), parameter(view, like)
    with np.errstate(all="ignore"):
        steps = np.rint(x.astype(np.float32) / scale.astype(np.float32)).astype(np.float64)
    if np.isnan(steps).any():
        raise NotEvaluatedError("QuantizeLinear of NaN")
    limits = ml_dtypes.iinfo(like.dtype)  # type: ignore[no-untyped-call]
    return np.clip(steps + zero.astype(np.float64), int(limits.min), int(limits.max)).astype(like.dtype)


def dequantize(view: NodeView) -> Array:
    """Subtract and multiply in float64; the type of the scale (or `output_dtype`) comes of one rounding."""
    x, scale, zero = view.x, view.input(1), view.optional(2)
    if is_rational(scale):
        shifted = (
            x.astype(object) if zero is None else x.astype(object) - parameter(view, zero).astype(object)
        )
        return np.asarray(shifted * parameter(view, scale))
    exact = x.astype(np.float64)
    if zero is not None:
        exact = exact - parameter(view, zero).astype(np.float64)
    exact = exact * parameter(view, scale).astype(np.float64)
    if view.float64:
        return exact
    to = int(view.get("output_dtype", 0))
    dtype = helper.tensor_dtype_to_np_dtype(to) if to else scale.dtype
    if not is_float(dtype):
        raise NotEvaluatedError(f"DequantizeLinear to {dtype}")
    return exact.astype(dtype)


def parameter(view: NodeView, array: Array) -> Array:
    """Return a scale or a zero point, shaped to broadcast to the node's data."""
    axis, block = int(view.get("axis", 1)), int(view.get("block_size", 0))
    return along_axis(array, view.x.shape, axis, block)


def along_axis(array: Array, data: tuple[int, ...], axis: int, block: int = 0) -> Array:
    """Return a parameter per tensor, per axis or per block, shaped to broadcast to data of that shape.

    Raises NotEvaluatedError where its shape does not fit.
    """
    if block and array.ndim == len(data) > 0:
        size = data[axis]
        if array.shape[axis] != -(-size // block):
            raise NotEvaluatedError(f"{array.shape[axis]} blocks of {block} on an axis of {size}")
        return np.repeat(array, block, axis).take(np.arange(size), axis)
    fits = array.ndim == 1 and -len(data) <= axis < len(data) and data[axis] == array.size
    if not fits and (array.size != 1 or array.ndim > 1):
        raise NotEvaluatedError(f"quantization parameters {array.shape} of data {data} on axis {axis}")
    return per_axis(array, len(data), axis)


def per_axis(array: Array, rank: int, axis: int) -> Array:
    """Return a parameter per tensor, () or (1,), or per axis, (C,), with as many axes as its data."""
    if array.size == 1:
        return array.reshape((1,) * rank)
    return array.reshape([-1 if i == axis % rank else 1 for i in range(rank)])


KERNELS: dict[str, Kernel] = {"DequantizeLinear": dequantize, "QuantizeLinear": quantize}
