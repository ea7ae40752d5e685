"""Pooling and reductions over space.

average of windows that hold real elements only      s*avg(x) + t = avg(s*x + t)
average that counts zeros of the padding             the scale passes, the shift does not
maximum (padding is -inf)                            s >= 0 passes, with its shift
sum                                                  the scale passes
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.rules.affine import Affine
from folding.rules.base import Skip, SkipReason
from folding.rules.interface import Context, Move, Propagated, label, unknown

MEAN = ("AveragePool", "GlobalAveragePool", "ReduceMean")
MAX = ("MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin")
REDUCE = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum")


class PoolRule:
    """Pools keep the rank; channels are axis 1 and windows slide over the rest."""

    ops = ("AveragePool", "GlobalAveragePool", "MaxPool", "GlobalMaxPool")

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """To the input."""
        source = node.inputs[0]
        refusal = self._refusal(node, index, affine)
        if refusal is not None or source is None:
            return refusal or unknown(node, "no input")
        return Propagated(((source, affine),))

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """To the output."""
        refusal = self._refusal(node, 0, affine)
        return refusal or Propagated(((node.outputs[0], affine),))

    def _refusal(self, node: ir.Node, index: int, affine: Affine) -> Skip | None:
        if any(axis > 1 for axis in affine.varying()):
            return Skip(
                SkipReason.CHANNEL_AXIS_LOST, f"{label(node)} slides over an axis that is not scaled alike"
            )
        if node.op_type in MAX:
            if index != 0 or g.output_used(node, 1):
                return Skip(SkipReason.NONLINEARITY_BETWEEN, f"the indices of {label(node)} are read")
            return _ordered(node, affine)
        if affine.has_shift and not _real_elements_only(node):
            return Skip(
                SkipReason.PADDED_SHIFT,
                f"{label(node)} counts the zeros of its padding, which are not shifted",
            )
        return None


def _real_elements_only(node: ir.Node) -> bool:
    """Whether every window's average is over input elements alone.

    With count_include_pad=0 the padding is left out of sum and count. With 1 it is counted; windows that
    ceil_mode lets hang over the end are counted differently by different opsets, so those do not pass.
    """
    if node.op_type == "GlobalAveragePool" or not g.attr_int(node, "count_include_pad", 0):
        return True
    padded = any(g.attr_ints(node, "pads") or ()) or g.attr_str(node, "auto_pad", "NOTSET").startswith("SAME")
    return not padded and not g.attr_int(node, "ceil_mode", 0)


def _ordered(node: ir.Node, affine: Affine) -> Skip | None:
    if affine.non_negative:
        return None
    count = int(np.sum(affine.scale < 0))
    return Skip(SkipReason.NEGATIVE_SCALE, f"{label(node)} takes maxima, and {count} scales are negative")


class ReduceRule:
    """ReduceMean, ReduceMax, ReduceMin, ReduceSum over axes along which the affine does not vary."""

    ops = REDUCE

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Give the reduced axes back."""
        source = node.inputs[0]
        axes = self._axes(node, ctx)
        refusal = self._refusal(node, affine)
        if refusal is not None or axes is None or source is None:
            return refusal or unknown(node, "its axes are computed at run time")
        if g.attr_int(node, "keepdims", 1):
            return Propagated(((source, affine),)) if _untouched(affine, axes) else _mixed(node)
        return Propagated(((source, affine.map(lambda array: np.expand_dims(array, tuple(axes)))),))

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Drop the reduced axes."""
        axes = self._axes(node, ctx)
        refusal = self._refusal(node, affine)
        if refusal is not None or axes is None or index != 0:
            return refusal or unknown(node, "its axes are computed at run time")
        if not _untouched(affine, axes):
            return _mixed(node)
        if g.attr_int(node, "keepdims", 1):
            return Propagated(((node.outputs[0], affine),))
        return Propagated(((node.outputs[0], affine.map(lambda array: np.squeeze(array, tuple(axes)))),))

    def _refusal(self, node: ir.Node, affine: Affine) -> Skip | None:
        if node.op_type in MAX:
            return _ordered(node, affine)
        if node.op_type == "ReduceSum" and affine.has_shift:
            return Skip(SkipReason.PADDED_SHIFT, f"{label(node)} would add the shift once per element")
        return None

    def _axes(self, node: ir.Node, ctx: Context) -> list[int] | None:
        source = node.inputs[0]
        rank = None if source is None else ctx.rank(source)
        given = g.input_at(node, 1)
        if rank is None or (given is not None and not ctx.constants.is_const(given)):
            return None
        axes = g.attr_ints(node, "axes") if given is None else ctx.constants.ints(given)
        if not axes:
            return [] if g.attr_int(node, "noop_with_empty_axes", 0) else list(range(rank))
        return sorted(axis % rank for axis in axes)


def _untouched(affine: Affine, axes: list[int]) -> bool:
    return not any(axis in axes for axis in affine.varying())


def _mixed(node: ir.Node) -> Skip:
    return Skip(SkipReason.CHANNEL_AXIS_LOST, f"{label(node)} reduces over the channels")


POOL, REDUCE_RULE = PoolRule(), ReduceRule()
