"""The operators that constant expressions are made of, in numpy: what `Constants.evaluate` calls.

One function per operator: `(node, *inputs) -> array`. Floating inputs come as float64, and stay that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.norms.base import Array

_MAX_ELEMENTS = 1 << 28  # an Expand or Tile beyond this is left to the runtime


def wide(array: Array) -> Array:
    """Floating arrays as float64; others as they are."""
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        return array.astype(np.float64)
    return array


def axes_of(node: ir.Node, axes: Array | None) -> list[int] | None:
    """Axes given as an input (opset 13 and later) or as an attribute (before)."""
    if axes is not None:
        return [int(axis) for axis in np.atleast_1d(axes)]
    return g.attr_ints(node, "axes")


def shape_slice(node: ir.Node, shape: Array) -> Array:
    start = g.attr_int(node, "start", 0)
    end = g.attr_int(node, "end", len(shape))
    return shape[start:end]


def _reshape(node: ir.Node, data: Array, shape: Array | None = None) -> Array:
    target = [int(dim) for dim in (shape if shape is not None else g.attr_ints(node, "shape") or [])]
    if not g.attr_int(node, "allowzero", 0):
        target = [data.shape[i] if dim == 0 else dim for i, dim in enumerate(target)]
    return data.reshape(target)


def _squeeze(node: ir.Node, data: Array, axes: Array | None = None) -> Array:
    given = axes_of(node, axes)
    return np.squeeze(data, None if given is None else tuple(given))


def _unsqueeze(node: ir.Node, data: Array, axes: Array | None = None) -> Array:
    return np.expand_dims(data, tuple(axes_of(node, axes) or ()))


def _cast(node: ir.Node, data: Array) -> Array:
    dtype = ir.DataType(g.attr_int(node, "to", 1))
    if dtype in g.FLOATS:
        return data.astype(np.float64)
    return data.astype(dtype.numpy())


def _cast_like(node: ir.Node, data: Array, like: Array) -> Array:
    return data.astype(like.dtype)


def _expand(node: ir.Node, data: Array, shape: Array) -> Array:
    out = np.broadcast_shapes(data.shape, tuple(int(dim) for dim in shape))
    _check_size(out)
    return np.broadcast_to(data, out)


def _constant_of_shape(node: ir.Node, shape: Array) -> Array:
    attr = node.attributes.get("value")
    fill: Array = np.zeros(1) if attr is None else wide(attr.as_tensor().numpy())
    return np.broadcast_to(fill.reshape(()), tuple(int(dim) for dim in shape))


def _slice(node: ir.Node, data: Array, *args: Array | None) -> Array:
    given = list(args) + [None] * (4 - len(args))
    starts = given[0] if given[0] is not None else np.array(g.attr_ints(node, "starts"))
    ends = given[1] if given[1] is not None else np.array(g.attr_ints(node, "ends"))
    axes = given[2] if given[2] is not None else np.array(g.attr_ints(node, "axes") or range(len(starts)))
    steps = given[3] if given[3] is not None else np.ones(len(starts), dtype=np.int64)
    index: list[slice] = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[int(axis)] = _python_slice(int(start), int(end), int(step))
    return data[tuple(index)]


def _python_slice(start: int, end: int, step: int) -> slice:
    """ONNX says "to the very beginning" with a hugely negative end; Python says it with None."""
    if step < 0 and end < -(1 << 30):
        return slice(start, None, step)
    return slice(start, end, step)


def _gather(node: ir.Node, data: Array, indices: Array) -> Array:
    return np.take(data, indices.astype(np.int64), axis=g.attr_int(node, "axis", 0))


def _concat(node: ir.Node, *args: Array) -> Array:
    return np.concatenate(args, axis=g.attr_int(node, "axis", 0))


def _transpose(node: ir.Node, data: Array) -> Array:
    return np.transpose(data, g.attr_ints(node, "perm"))


def _binary(function: Callable[[Any, Any], Any]) -> Callable[..., Array]:
    def apply(node: ir.Node, left: Array, right: Array) -> Array:
        axis = g.attr_int(node, "axis")  # before opset 7: broadcast=1 aligns `right` at `axis`
        if axis is not None and right.ndim:
            right = right.reshape(right.shape + (1,) * (left.ndim - axis - right.ndim))
        with np.errstate(all="ignore"):  # what comes out non-finite is reported as such
            return np.asarray(function(left, right))

    return apply


def _unary(function: Callable[[Any], Any]) -> Callable[..., Array]:
    def apply(node: ir.Node, data: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(function(data))

    return apply


def _divide(left: Array, right: Array) -> Array:
    if left.dtype.kind in "iu" and right.dtype.kind in "iu":
        return np.asarray(np.trunc(left / right).astype(left.dtype))
    return np.asarray(left / right)


def _quantize(node: ir.Node, data: Array, scale: Array, zero: Array | None = None) -> Array:
    """As runtimes do it: float32 division, round half to even, saturate."""
    like = np.zeros((), np.uint8) if zero is None else zero
    steps = data.astype(np.float32) / along_axis(node, scale, data.shape).astype(np.float32)
    try:
        limits = ml_dtypes.iinfo(like.dtype)  # type: ignore[no-untyped-call]
    except ValueError:  # an 8-bit float has no zero point, and its cast rounds and saturates by itself
        return steps.astype(like.dtype)
    whole = np.rint(steps).astype(np.int64) + along_axis(node, like, data.shape).astype(np.int64)
    return np.clip(whole, int(limits.min), int(limits.max)).astype(like.dtype)


def _dequantize(node: ir.Node, data: Array, scale: Array, zero: Array | None = None) -> Array:
    shifted = data.astype(np.float64)
    if zero is not None:
        shifted = shifted - along_axis(node, zero, data.shape).astype(np.float64)
    return shifted * along_axis(node, scale, data.shape)


def along_axis(node: ir.Node, array: Array, data: tuple[int, ...]) -> Array:
    """A parameter of QuantizeLinear or DequantizeLinear, shaped to broadcast to its data of that shape."""
    axis, block = g.attr_int(node, "axis", 1), g.attr_int(node, "block_size", 0)
    if block:
        return np.repeat(array, block, axis).take(np.arange(data[axis]), axis)
    if array.size == 1:
        return array.reshape((1,) * len(data))
    if array.ndim != 1:
        return array
    shape = [1] * len(data)
    shape[axis % len(data)] = -1
    return array.reshape(shape)


def _reduce(function: Callable[..., Any]) -> Callable[..., Array]:
    def apply(node: ir.Node, data: Array, axes: Array | None = None) -> Array:
        given = axes_of(node, axes)
        if not given and g.attr_int(node, "noop_with_empty_axes", 0):
            return data
        keep = bool(g.attr_int(node, "keepdims", 1))
        return np.asarray(function(data, axis=tuple(given) if given else None, keepdims=keep))

    return apply


def _pad(node: ir.Node, data: Array, *args: Array | None) -> Array:
    pads, value, axes = [*args, None, None, None][:3]
    widths = [int(size) for size in (pads if pads is not None else g.attr_ints(node, "pads") or [])]
    chosen = range(data.ndim) if axes is None else [int(axis) % data.ndim for axis in axes]
    around, half = [(0, 0)] * data.ndim, len(widths) // 2
    for i, axis in enumerate(chosen):
        around[axis] = (widths[i], widths[half + i])
    cut = tuple(
        slice(max(-low, 0), size - max(-high, 0))
        for (low, high), size in zip(around, data.shape, strict=True)
    )
    data, around = data[cut], [(max(low, 0), max(high, 0)) for low, high in around]
    mode = g.attr_str(node, "mode", "constant")
    if mode != "constant":
        return np.pad(data, around, mode=mode)  # type: ignore[call-overload, no-any-return]
    fill = g.attr_float(node, "value", 0.0) if value is None else value.reshape(-1)[0]
    return np.pad(data, around, constant_values=fill)


def _clip(node: ir.Node, data: Array, low: Array | None = None, high: Array | None = None) -> Array:
    least = g.attr_float(node, "min", -np.inf) if low is None else low
    most = g.attr_float(node, "max", np.inf) if high is None else high
    return np.minimum(np.maximum(data, least), most)


def _tile(node: ir.Node, data: Array, repeats: Array) -> Array:
    _check_size([size * int(times) for size, times in zip(data.shape, repeats, strict=True)])
    return np.tile(data, repeats)


def _check_size(shape: Sequence[int]) -> None:
    if np.prod(shape, dtype=np.float64) > _MAX_ELEMENTS:
        raise ValueError(f"{list(shape)} is too large for a constant")


def _flatten(node: ir.Node, data: Array) -> Array:
    axis = g.attr_int(node, "axis", 1)
    return data.reshape(int(np.prod(data.shape[:axis])), -1)


def _sum(node: ir.Node, *args: Array) -> Array:
    return np.asarray(sum(args[1:], args[0]))


OPERATORS: dict[str, Callable[..., Array]] = {
    "Add": _binary(np.add), "Sub": _binary(np.subtract), "Mul": _binary(np.multiply),
    "Div": _binary(_divide), "Pow": _binary(np.power), "Max": _binary(np.maximum),
    "Min": _binary(np.minimum),
    "Neg": _unary(np.negative), "Sqrt": _unary(np.sqrt), "Abs": _unary(np.abs), "Exp": _unary(np.exp),
    "Reciprocal": _unary(lambda x: 1.0 / x), "Identity": _unary(lambda x: x),
    "Reshape": _reshape, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Transpose": _transpose,
    "Cast": _cast, "CastLike": _cast_like, "Expand": _expand, "ConstantOfShape": _constant_of_shape,
    "QuantizeLinear": _quantize, "DequantizeLinear": _dequantize,
    "Slice": _slice, "Gather": _gather, "Concat": _concat,
    "Sum": _sum, "MatMul": _binary(np.matmul), "Log": _unary(np.log), "Tanh": _unary(np.tanh),
    "Sigmoid": _unary(lambda x: 1.0 / (1.0 + np.exp(-x))), "Softplus": _unary(lambda x: np.logaddexp(x, 0.0)),
    "Relu": _unary(lambda x: np.maximum(x, 0)), "Sign": _unary(np.sign), "Floor": _unary(np.floor),
    "Clip": _clip, "Where": lambda node, condition, yes, no: np.asarray(np.where(condition, yes, no)),
    "Greater": _binary(np.greater), "Less": _binary(np.less), "Equal": _binary(np.equal),
    "ReduceSum": _reduce(np.sum), "ReduceMean": _reduce(np.mean), "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min), "ReduceProd": _reduce(np.prod),
    "ReduceSumSquare": _reduce(lambda x, **over: np.sum(x * x, **over)),
    "ReduceL2": _reduce(lambda x, **over: np.sqrt(np.sum(x * x, **over))),
    "ReduceL1": _reduce(lambda x, **over: np.sum(np.abs(x), **over)),
    "Pad": _pad, "Tile": _tile, "Flatten": _flatten,
}  # fmt: skip
