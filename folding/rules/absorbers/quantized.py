"""Weights behind DequantizeLinear stay quantized: the affine goes through their scales.

    W = (Wq - zero) * scale          f*W = (Wq - zero) * (f*scale)        f > 0
    f < 0: Wq is mirrored at its zero, 2*zero - Wq, where the integer type has room for that
    f = 0: the channel's Wq becomes its zero

f is what the node absorbed on both sides, over the axes of W. It has a place where it varies along the axis
of the scales alone (one scale for all can become one per channel); with blocks, along any but the blocked.
The bias is written in the weights' floating type: a bias quantized at scale(x)*scale(W) could not hold the
shift exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir

from folding.ir import edit
from folding.ir import query as g
from folding.ir.evaluate.quantization import along_axis, per_axis
from folding.ir.types import Array, Float64Array
from folding.rules.absorbers.linear import Linear
from folding.rules.base import Skip, SkipReason
from folding.rules.certificate import Rounding
from folding.rules.interface import Context, Side, label
from folding.rules.writing import emit_affine
from folding.rules.writing.rounding import rounded

_PER_CHANNEL_SINCE = 13


@dataclass(frozen=True, eq=False)
class Quantized:
    """New operands of a DequantizeLinear. `integers` is None when they stay."""

    node: ir.Node
    axis: int
    integers: Array | None
    scale: Array
    zero: Array | None
    rounding: Rounding


def dequantizer(linear: Linear) -> ir.Node | None:
    """The DequantizeLinear that makes the node's weights, or None."""
    node = linear.weight.producer()
    return node if node is not None and g.is_op(node, "DequantizeLinear") else None


def refusal(
    linear: Linear, side: Side, scale: Float64Array, shift: Float64Array, ctx: Context
) -> Skip | None:
    """Before the fact: whether the node's scales and integers could also express this."""
    node = dequantizer(linear)
    if node is None:
        return None
    if linear.shift_in_weights and np.any(shift):
        return _refused(f"{label(node)} makes the output itself, and its integers cannot hold a shift")
    s_out, s_in = linear.s_out, linear.s_in
    if side == Side.INTO_PRODUCER:
        s_out = scale if s_out is None else s_out * scale
    else:
        s_in = scale if s_in is None else s_in * scale
    made = fold(linear, s_out, s_in, ctx)
    return made if isinstance(made, Skip) else None


def fold(
    linear: Linear, s_out: Float64Array | None, s_in: Float64Array | None, ctx: Context
) -> Quantized | Skip | None:
    """New operands for the node's DequantizeLinear; None when it has none."""
    node = dequantizer(linear)
    if node is None:
        return None
    factor = _factor(linear, s_out, s_in)
    varying = [axis for axis, size in enumerate(factor.shape) if size != 1]
    scale = ctx.constants.evaluate(_operand(node, 1))
    zero_value = g.input_at(node, 2)
    zero = None if zero_value is None else ctx.constants.evaluate(zero_value)
    skip = _inexpressible(node, factor, varying, scale, ctx)
    if skip is not None:
        return skip
    axis = varying[0] if varying and not _block(node) else g.attr_int(node, "axis", 1)
    integers = _integers(node, factor, zero, ctx)
    if isinstance(integers, Skip):
        return integers
    magnitude = np.where(factor == 0.0, 1.0, np.abs(factor))
    if _block(node):
        new = magnitude * scale
    else:
        wide = magnitude * per_axis(scale, factor.ndim, g.attr_int(node, "axis", 1))
        new = wide.reshape(-1) if wide.size > 1 or scale.ndim else wide.reshape(())
    dtype = (_operand(node, 1).dtype or ir.DataType.FLOAT).numpy()
    stored, rounding = rounded(new, np.dtype(dtype))
    if zero is not None and zero.size != stored.size:
        zero = np.broadcast_to(zero.reshape(-1)[:1], stored.shape)
    return Quantized(node, axis, integers, stored, zero, rounding)


def _factor(linear: Linear, s_out: Float64Array | None, s_in: Float64Array | None) -> Float64Array:
    """What the weights are multiplied by, over their own axes, those where all is equal reduced to 1."""
    factor = linear.out_factor(np.ones(linear.out_size) if s_out is None else s_out)
    if s_in is not None:
        factor = factor * linear.in_factor(s_in)
    for axis in range(factor.ndim):
        first = factor.take([0], axis=axis)
        if np.all(factor == first):
            factor = first
    return factor


def _block(node: ir.Node) -> int:
    return int(g.attr_int(node, "block_size", 0) or 0)


def place(linear: Linear, made: Quantized, ctx: Context) -> None:
    """A DequantizeLinear of the node's own, with the new operands."""
    old, graph = made.node, linear.node.graph
    assert isinstance(graph, ir.Graph)
    data, name = _operand(old, 0), linear.name
    if made.integers is not None:
        dtype = data.dtype or ir.DataType.from_numpy(made.integers.dtype)
        data = emit_affine.constant(ctx, graph, f"{name}/quantized", made.integers, dtype)
    scale_type = ir.DataType.from_numpy(made.scale.dtype)
    inputs = [data, emit_affine.constant(ctx, graph, f"{name}/scale", made.scale, scale_type)]
    if made.zero is not None:
        zero_type = _operand(old, 2).dtype or ir.DataType.from_numpy(made.zero.dtype)
        inputs.append(emit_affine.constant(ctx, graph, f"{name}/zero", made.zero, zero_type))
    node = ir.node("DequantizeLinear", inputs, name=ctx.unique(f"{name}/DequantizeLinear"))
    node.attributes.update(old.attributes)
    if made.scale.ndim:
        node.attributes.add(ir.AttrInt64("axis", made.axis))
    output = node.outputs[0]
    output.name = ctx.unique(f"{name}/weights")
    output.type, output.shape = old.outputs[0].type, old.outputs[0].shape
    graph.insert_before(linear.node, node)
    linear.node.replace_input_with(linear.weight_index, output)
    edit.prune([old])


def _operand(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _inexpressible(
    node: ir.Node, factor: Float64Array, varying: list[int], scale: Array, ctx: Context
) -> Skip | None:
    axis = g.attr_int(node, "axis", 1) % factor.ndim
    if _block(node):
        return None if axis not in varying else _refused(f"{label(node)} has blocks along axis {axis}")
    if len(varying) > 1 or (scale.size > 1 and varying and varying != [axis]):
        return _refused(
            f"{label(node)} has scales along axis {axis} of the weights, these would vary along {varying}"
        )
    if varying and scale.size == 1 and ctx.opset < _PER_CHANNEL_SINCE:
        return _refused(f"{label(node)} has one scale for all channels (opset {ctx.opset})")
    return None


def _refused(detail: str) -> Skip:
    return Skip(SkipReason.QUANTIZED_WEIGHTS, detail)


def _integers(node: ir.Node, factor: Float64Array, zero: Array | None, ctx: Context) -> Array | Skip | None:
    """The integers with negative channels mirrored and zero channels cleared; None when all stay."""
    data = _operand(node, 0)
    if np.all(factor > 0.0) and g.is_stored(data):
        return None
    old = ctx.constants.array(data)
    negative, nothing = np.broadcast_to(factor < 0.0, old.shape), np.broadcast_to(factor == 0.0, old.shape)
    center = (
        np.zeros((1,) * old.ndim)
        if zero is None
        else along_axis(zero, old.shape, g.attr_int(node, "axis", 1), g.attr_int(node, "block_size", 0))
    )
    center = np.broadcast_to(center.astype(np.float64), old.shape)
    mirrored = 2.0 * center - old.astype(np.float64)  # exact: no weight has more than 16 bits
    low, high = _range(old.dtype)
    if np.any(mirrored[negative] < low) or np.any(mirrored[negative] > high):
        return Skip(
            SkipReason.QUANTIZED_NEGATIVE_SCALE,
            f"{label(node)}: a negative scale would mirror integers out of the range of {old.dtype.name}",
        )
    result = old.copy()
    result[negative] = mirrored[negative].astype(old.dtype)
    result[nothing] = center[nothing].astype(old.dtype)
    return result


def _range(dtype: np.dtype[np.generic]) -> tuple[float, float]:
    """Of an integer type, those of four bits and fewer included; 8-bit floats have room on both sides."""
    try:
        limits = ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call]
    except ValueError:
        return -np.inf, np.inf
    return float(limits.min), float(limits.max)
