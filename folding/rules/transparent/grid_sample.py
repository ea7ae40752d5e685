"""GridSample and RoiAlign: each output is a weighted sum of inputs of one channel.

    x (N, C, *space); y (N, C, *space') or, for RoiAlign, (regions, C, h, w)
    y = sum_i weight_i * x_i        weights from the grid alone, the same for all channels

Given:  s*GridSample(x, grid) + t       Result: GridSample(s*x + t, grid)     weights that sum to one
    padding_mode border, reflection     every sample lies inside: nearest, linear and cubic weights sum to one
    padding_mode zeros                  samples outside count zeros: the scale passes, the shift does not
    RoiAlign, mode avg                  likewise; mode max is no sum
"""

from __future__ import annotations

import onnx_ir as ir

from folding.ir import query as g
from folding.rules.affine import Affine
from folding.rules.base import Skip, SkipReason
from folding.rules.interface import Context, Move, Propagated, channel_axis_lost, label, unknown


class GridSampleRule:
    """Channels are axis 1 on both sides."""

    ops = ("GridSample", "RoiAlign")

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """To the sampled input."""
        source = node.inputs[0]
        refusal = self._refusal(node, affine)
        if refusal is not None or source is None:
            return refusal or unknown(node, "no input")
        return Propagated(((source, affine),))

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """To the output."""
        if index != 0:
            return unknown(node, "it is a place, not the data")
        return self._refusal(node, affine) or Propagated(((node.outputs[0], affine),))

    def _refusal(self, node: ir.Node, affine: Affine) -> Skip | None:
        if any(axis != 1 for axis in affine.varying()):
            return channel_axis_lost(f"{label(node)} samples along an axis that is not scaled alike")
        if node.op_type == "RoiAlign" and g.attr_str(node, "mode", "avg") != "avg":
            return Skip(SkipReason.NONLINEARITY_BETWEEN, f"{label(node)} takes maxima")
        inside = node.op_type == "GridSample" and g.attr_str(node, "padding_mode", "zeros") in _INSIDE
        if affine.has_shift and not inside:
            return Skip(
                SkipReason.PADDED_SHIFT,
                f"{label(node)} counts zeros for samples outside its input, which are not shifted",
            )
        return None


_INSIDE = ("border", "reflection")

RULE = GridSampleRule()
