"""ReLU, LeakyReLU, PReLU, Abs: positively homogeneous, so a scale that is nowhere negative passes.

relu(s*x) = s*relu(x)                             for s >= 0; a shift never passes
prelu(s*x; a) = s*a * prelu(x; 1/a)               for s < 0 and a slope a > 0: the slope changes as well
|s*x| = |s| * |x|                                 into_consumer only
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.ir.types import Float64Array
from folding.rules.affine import Affine
from folding.rules.base import Skip, SkipReason
from folding.rules.interface import Context, Move, Propagated, label, unknown
from folding.rules.patch import Patch, SetAttribute, SetConstantInput, problem

_STEEP = 2.0**10  # slopes outside of 1/_STEEP .. _STEEP are not turned over: weights would lose their size
_SINCE_BROADCAST = 7


class RectifierRule:
    """See the module."""

    ops = ("Relu", "LeakyRelu", "PRelu", "Abs")

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """To the data input."""
        source = node.inputs[0]
        if source is None:
            return unknown(node, "no input")
        moved = self._through(node, 0, affine, ctx)
        if isinstance(moved, Skip):
            return moved
        onward, patch = moved
        return Propagated(((source, onward),), patch)

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """To the output."""
        if g.is_op(node, "Abs") and not affine.has_shift:
            return Propagated(((node.outputs[0], Affine(np.abs(affine.scale), affine.shift)),))
        moved = self._through(node, index, affine, ctx)
        if isinstance(moved, Skip):
            return moved
        onward, patch = moved
        return Propagated(((node.outputs[0], onward),), patch)

    def _through(
        self, node: ir.Node, index: int, affine: Affine, ctx: Context
    ) -> tuple[Affine, Patch | None] | Skip:
        """The scale on the other side, the same both ways, and what changes at the node."""
        if index != 0:
            return unknown(node, "it is the slope, not the data")
        if affine.has_shift:
            return Skip(SkipReason.NONLINEARITY_BETWEEN, f"a shift does not pass {label(node)}")
        if affine.non_negative:
            return affine, None
        turned = _turned(node, affine, ctx)
        if turned is None:
            count = int(np.sum(affine.scale < 0))
            return Skip(SkipReason.NEGATIVE_SCALE, f"{count} negative scales do not pass {label(node)}")
        return turned


def _turned(node: ir.Node, affine: Affine, ctx: Context) -> tuple[Affine, Patch] | None:
    """Slopes that let negative scales pass; None where there are none."""
    slope = _slope(node, affine.rank, ctx)
    if slope is None:
        return None
    negative = affine.scale < 0.0
    slopes = np.broadcast_to(slope, np.broadcast_shapes(slope.shape, affine.scale.shape))
    there = slopes[np.broadcast_to(negative, slopes.shape)]
    if np.any(there < 1.0 / _STEEP) or np.any(there > _STEEP):
        return None
    with np.errstate(divide="ignore"):
        after = np.where(negative, 1.0 / slopes, slopes)
    onward = Affine.of(affine.scale * np.where(negative, slopes, 1.0), affine.shift)
    patch = _patch(node, after)
    return None if patch is None or problem(patch) is not None else (onward, patch)


def _slope(node: ir.Node, rank: int, ctx: Context) -> Float64Array | None:
    """The slopes with the rank of the data; None where they are not known, or the node has none."""
    if g.is_op(node, "LeakyRelu"):
        return np.full((1,) * rank, float(g.attr_float(node, "alpha", 0.01)))
    if not g.is_op(node, "PRelu") or ctx.opset < _SINCE_BROADCAST:
        return None
    value = g.input_at(node, 1)
    if value is None or not ctx.constants.is_const(value):
        return None
    slope = ctx.constants.evaluate(value)
    if slope.ndim > rank or slope.dtype.kind != "f":
        return None
    return np.asarray(slope.reshape((1,) * (rank - slope.ndim) + slope.shape), dtype=np.float64)


def _patch(node: ir.Node, slopes: Float64Array) -> Patch | None:
    """The node with other slopes; LeakyReLU has one for all."""
    if g.is_op(node, "LeakyRelu"):
        first = float(slopes.reshape(-1)[0])
        return SetAttribute(node, "alpha", first) if np.all(slopes == first) else None
    value = g.input_at(node, 1)
    dtype = None if value is None else value.dtype
    shape = list(slopes.shape)
    while len(shape) > 1 and shape[0] == 1:
        shape.pop(0)
    return None if dtype is None else SetConstantInput(node, 1, "slope", slopes.reshape(shape), dtype)


RULE = RectifierRule()
