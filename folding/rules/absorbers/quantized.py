"""Weights behind DequantizeLinear stay quantized: the affine goes through their per-channel scale.

    W = (Wq - zero) * scale          s*W = (Wq - zero) * (s*scale)        s > 0, along the output channels
    s < 0: Wq is mirrored at its zero, 2*zero - Wq, where the integer type has room for that
    s = 0: the channel's Wq becomes its zero

The bias is written in the weights' floating type: a bias quantized at scale(x)*scale(W) could not hold the
shift exactly. A scale per input channel has no place in DequantizeLinear.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from folding import graph as g
from folding.norms.base import Array, Float64Array
from folding.norms.constants import along_axis
from folding.rules import standalone
from folding.rules.absorbers.linear import Linear
from folding.rules.base import Skip, SkipReason
from folding.rules.moves import Context, label
from folding.rules.rounding import rounded
from folding.verify.certificate import Rounding

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


def refuse_input_scale(linear: Linear, scale: Float64Array) -> Skip | None:
    """Before the fact: only a scale that is the same for all input channels."""
    node = dequantizer(linear)
    if node is None or (np.all(scale == scale[0]) and scale[0] > 0):
        return None
    return Skip(
        SkipReason.QUANTIZED_WEIGHTS,
        f"weights of {label(linear.node)} are quantized with a scale per output channel, this would be one "
        "per input channel",
    )


def refuse_output_scale(linear: Linear, scale: Float64Array, ctx: Context) -> Skip | None:
    """Before the fact: whether every channel's new scale and sign can be expressed."""
    made = fold(linear, scale, None, ctx)
    return made if isinstance(made, Skip) else None


def fold(
    linear: Linear, s_out: Float64Array | None, s_in: Float64Array | None, ctx: Context
) -> Quantized | Skip | None:
    """New operands for the node's DequantizeLinear; None when it has none."""
    node = dequantizer(linear)
    if node is None:
        return None
    factor = linear.out_factor(np.ones(linear.out_size) if s_out is None else s_out)
    if s_in is not None:
        factor = factor * s_in[0]
    varying = [axis for axis, size in enumerate(factor.shape) if size != 1]
    scale = ctx.constants.evaluate(_operand(node, 1))
    zero_value = g.input_at(node, 2)
    zero = None if zero_value is None else ctx.constants.evaluate(zero_value)
    refusal = _inexpressible(node, factor, varying, scale, ctx)
    if refusal is not None:
        return refusal
    axis = varying[0] if varying else g.attr_int(node, "axis", 1)
    integers = _integers(node, factor, zero, ctx)
    if isinstance(integers, Skip):
        return integers
    magnitude = np.where(factor == 0.0, 1.0, np.abs(factor))
    new = magnitude * along_axis(node, scale, factor.ndim)
    flat = new.reshape(-1) if new.size > 1 or scale.ndim else new.reshape(())
    dtype = (_operand(node, 1).dtype or ir.DataType.FLOAT).numpy()
    stored, rounding = rounded(flat, np.dtype(dtype))
    if zero is not None and zero.size != stored.size:
        zero = np.broadcast_to(zero.reshape(-1)[:1], stored.shape)
    return Quantized(node, axis, integers, stored, zero, rounding)


def place(linear: Linear, made: Quantized, ctx: Context) -> None:
    """A DequantizeLinear of the node's own, with the new operands."""
    old, graph = made.node, linear.node.graph
    assert isinstance(graph, ir.Graph)
    data, name = _operand(old, 0), linear.name
    if made.integers is not None:
        dtype = data.dtype or ir.DataType.from_numpy(made.integers.dtype)
        data = standalone.constant(ctx, graph, f"{name}/quantized", made.integers, dtype)
    scale_type = ir.DataType.from_numpy(made.scale.dtype)
    inputs = [data, standalone.constant(ctx, graph, f"{name}/scale", made.scale, scale_type)]
    if made.zero is not None:
        zero_type = _operand(old, 2).dtype or ir.DataType.from_numpy(made.zero.dtype)
        inputs.append(standalone.constant(ctx, graph, f"{name}/zero", made.zero, zero_type))
    node = ir.node("DequantizeLinear", inputs, name=ctx.unique(f"{name}/DequantizeLinear"))
    if made.scale.ndim:
        node.attributes.add(ir.AttrInt64("axis", made.axis))
    output = node.outputs[0]
    output.name = ctx.unique(f"{name}/weights")
    output.type, output.shape = old.outputs[0].type, old.outputs[0].shape
    graph.insert_before(linear.node, node)
    linear.node.replace_input_with(linear.weight_index, output)
    g.prune([old])


def _operand(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _inexpressible(
    node: ir.Node, factor: Float64Array, varying: list[int], scale: Array, ctx: Context
) -> Skip | None:
    per_channel = scale.size > 1
    axis = g.attr_int(node, "axis", 1) % factor.ndim
    if len(varying) > 1 or (per_channel and varying and varying != [axis]):
        return Skip(
            SkipReason.QUANTIZED_WEIGHTS, f"{label(node)} has its scales along another axis than the channels"
        )
    if varying and not per_channel and ctx.opset < _PER_CHANNEL_SINCE:
        return Skip(
            SkipReason.QUANTIZED_WEIGHTS, f"{label(node)} has one scale for all channels (opset {ctx.opset})"
        )
    return None


def _integers(node: ir.Node, factor: Float64Array, zero: Array | None, ctx: Context) -> Array | Skip | None:
    """The integers with negative channels negated and zero channels cleared; None when all stay."""
    data = _operand(node, 0)
    if np.all(factor > 0.0) and g.is_stored(data):
        return None
    old = ctx.constants.array(data)
    negative, nothing = np.broadcast_to(factor < 0.0, old.shape), np.broadcast_to(factor == 0.0, old.shape)
    result = old.copy()
    center = np.zeros((), np.int64) if zero is None else along_axis(node, zero, old.ndim).astype(np.int64)
    mirrored = 2 * np.broadcast_to(center, old.shape) - old.astype(np.int64)
    limits = np.iinfo(old.dtype)
    if np.any(mirrored[negative] < limits.min) or np.any(mirrored[negative] > limits.max):
        return Skip(
            SkipReason.QUANTIZED_NEGATIVE_SCALE,
            f"{label(node)}: a negative scale would mirror integers out of the range of {old.dtype.name}",
        )
    result[negative] = mirrored[negative].astype(old.dtype)
    result[nothing] = np.broadcast_to(center, old.shape)[nothing].astype(old.dtype)
    return result
