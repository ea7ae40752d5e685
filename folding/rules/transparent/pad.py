"""Pad: what it adds must fit the affine.

into_producer   s*Pad(x, v) + t = Pad(s*x + t, s*v + t)        if s*v + t is one number
into_consumer   Pad(s*x + t, v) = s*Pad(x, (v - t)/s) + t      if (v - t)/s is one number
edge, reflect and wrap copy elements of x: everything passes
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.ir.types import Float64Array
from folding.rules.affine import Affine
from folding.rules.base import Skip, SkipReason
from folding.rules.interface import Context, Move, Propagated, channel_axis_lost, label, unknown
from folding.rules.patch import Patch, SetAttribute, SetConstantInput, problem


class PadRule:
    """See the module."""

    ops = ("Pad",)

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Pad with the image of the padding."""
        source = node.inputs[0]
        if source is None:
            return unknown(node, "no input")
        value = self._value(node, affine, ctx)
        if not isinstance(value, float):
            return value or Propagated(((source, affine),))
        wanted = affine.scale * value + affine.shift
        return self._pass(node, source, affine, value, wanted, ctx)

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Pad with the preimage of the padding."""
        if index != 0:
            return unknown(node, "it is a size, not the data")
        value = self._value(node, affine, ctx)
        if not isinstance(value, float):
            return value or Propagated(((node.outputs[0], affine),))
        with np.errstate(all="ignore"):  # s = 0 is refused as not being one number
            wanted = (value - affine.shift) / affine.scale
        return self._pass(node, node.outputs[0], affine, value, wanted, ctx)

    def _value(self, node: ir.Node, affine: Affine, ctx: Context) -> float | Skip | None:
        """The number it pads with; None when it copies elements instead."""
        source = node.inputs[0]
        before = None if source is None else ctx.dims(source)
        after = ctx.dims(node.outputs[0])
        for axis in affine.varying():
            if before is None or after is None or before[axis] != after[axis]:
                return channel_axis_lost(f"{label(node)} pads axis {axis}, along which the affine varies")
        if g.attr_str(node, "mode", "constant") != "constant":
            return None
        given = g.input_at(node, 2)
        if given is None:
            return g.attr_float(node, "value", 0.0)
        if not ctx.constants.is_const(given):
            return unknown(node, "the value it pads with is computed at run time")
        return float(ctx.constants.evaluate(given).reshape(-1)[0])

    def _pass(
        self,
        node: ir.Node,
        onward: ir.Value,
        affine: Affine,
        value: float,
        wanted: Float64Array,
        ctx: Context,
    ) -> Move:
        first = float(wanted.reshape(-1)[0])
        if not np.isfinite(wanted).all() or np.any(wanted != first):
            return Skip(
                SkipReason.PADDED_SHIFT,
                f"{label(node)} pads with {value:g}, the channels would need different values",
            )
        if first == value:
            return Propagated(((onward, affine),))
        patch = _padding(node, first, ctx)
        found = problem(patch)
        if found is not None:
            return Skip(SkipReason.WOULD_OVERFLOW, found)
        return Propagated(((onward, affine),), patch)


def _padding(node: ir.Node, value: float, ctx: Context) -> Patch:
    """Let the node pad with another number."""
    if ctx.opset < 11:
        return SetAttribute(node, "value", value)
    source = node.inputs[0]
    dtype = (source.dtype if source is not None else None) or ir.DataType.FLOAT
    return SetConstantInput(node, 2, "value", value, dtype)


RULE = PadRule()
