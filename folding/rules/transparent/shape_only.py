"""Shape, Size, and CastLike's pattern input read no numbers: an affine may come or go unseen."""

from __future__ import annotations

import onnx_ir as ir

from folding.ir import query as g
from folding.rules.affine import Affine
from folding.rules.base import Skip, SkipReason
from folding.rules.interface import Context, Move, Propagated, label


class ShapeOnlyRule:
    """See the module."""

    ops = ("Shape", "Size", "CastLike")

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """A shape is no activation."""
        return Skip(SkipReason.NO_LINEAR_NEIGHBOUR, f"produced by {label(node)}, which takes no affine")

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Nothing goes on."""
        if reads_shape_only(node, index):
            return Propagated(())
        return Skip(SkipReason.NO_LINEAR_NEIGHBOUR, f"read by {label(node)}, which takes no affine")


def reads_shape_only(node: ir.Node, index: int) -> bool:
    """Whether the node reads only type or shape of that input."""
    return g.is_op(node, "Shape", "Size") or (g.is_op(node, "CastLike") and index == 1)


RULE = ShapeOnlyRule()
