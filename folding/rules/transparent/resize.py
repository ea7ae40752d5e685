"""Resize, Upsample: every output is a mean of inputs with weights that sum to one, channel by channel.

    resize(s*x + t) = s*resize(x) + t      nearest, linear, cubic; not with extrapolation (tf_crop_and_resize)
Expand, Tile: copies of inputs.
"""

from __future__ import annotations

import onnx_ir as ir

from folding.ir import query as g
from folding.ir.types import Float64Array
from folding.rules.affine import Affine
from folding.rules.base import Skip, SkipReason
from folding.rules.interface import Context, Move, Propagated, channel_axis_lost, label, unknown


class ResizeRule:
    """Same rank on both sides; the affine's own axes must keep their size."""

    ops = ("Resize", "Upsample", "Tile")

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """To the data input."""
        source = node.inputs[0]
        refusal = self._refusal(node, affine, ctx)
        if refusal is not None or source is None:
            return refusal or unknown(node, "no input")
        return Propagated(((source, affine),))

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """To the output."""
        if index != 0:
            return unknown(node, "it is a size, not the data")
        return self._refusal(node, affine, ctx) or Propagated(((node.outputs[0], affine),))

    def _refusal(self, node: ir.Node, affine: Affine, ctx: Context) -> Skip | None:
        if g.attr_str(node, "coordinate_transformation_mode", "") == "tf_crop_and_resize":
            return Skip(SkipReason.PADDED_SHIFT, f"{label(node)} extrapolates with a fixed value")
        source = node.inputs[0]
        before = None if source is None else ctx.dims(source)
        after = ctx.dims(node.outputs[0])
        if affine.varying() and (before is None or after is None):
            return unknown(node, "the shape before or after it is unknown")
        for axis in affine.varying():
            assert before is not None
            assert after is not None
            if before[axis] != after[axis] or before[axis] != affine.scale.shape[axis]:
                return channel_axis_lost(
                    f"{label(node)} changes the size of axis {axis}, which carries the channels"
                )
        return None


class ExpandRule:
    """Expand may add axes in front; an axis that the affine runs along must not be expanded."""

    ops = ("Expand",)

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Drop the axes that Expand adds."""
        source = node.inputs[0]
        before = None if source is None else ctx.dims(source)
        if source is None or before is None or len(before) > affine.rank:
            return unknown(node, "the shape before it is unknown")
        added = affine.rank - len(before)
        for axis in affine.varying():
            if axis < added or before[axis - added] != affine.scale.shape[axis]:
                return channel_axis_lost(f"{label(node)} expands axis {axis}, along which the affine varies")

        def drop(array: Float64Array) -> Float64Array:
            return array.reshape(array.shape[added:])

        return Propagated(((source, affine.map(drop)),))

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Add the axes that Expand adds."""
        after = ctx.dims(node.outputs[0])
        if index != 0 or after is None or len(after) < affine.rank:
            return unknown(node, "the shape after it is unknown")
        added = len(after) - affine.rank
        for axis in affine.varying():
            if after[axis + added] != affine.scale.shape[axis]:
                return channel_axis_lost(f"{label(node)} expands axis {axis}, along which the affine varies")
        return Propagated(
            ((node.outputs[0], affine.map(lambda array: array.reshape((1,) * added + array.shape))),)
        )


RULE, EXPAND = ResizeRule(), ExpandRule()
