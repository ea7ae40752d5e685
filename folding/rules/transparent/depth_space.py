"""DepthToSpace and SpaceToDepth with block b: b*b channels become one with b*b positions, and back.

    DepthToSpace DCR   input channel  k*C + c          SpaceToDepth   output channel  k*C + c
    DepthToSpace CRD   input channel  c*b*b + k        (c: channel of the wide side, k: position in the block)

Towards depth an affine repeats per position; towards space it must be equal for all positions of a block.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.ir.types import Float64Array
from folding.rules.affine import Affine
from folding.rules.interface import Context, Move, Propagated, channel_axis_lost, label, unknown


class DepthSpaceRule:
    """See the module."""

    ops = ("DepthToSpace", "SpaceToDepth")

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """From output channels to input channels."""
        source = node.inputs[0]
        if source is None:
            return unknown(node, "no input")
        moved = self._move(node, affine, to_depth=node.op_type == "DepthToSpace")
        return channel_axis_lost(_why(node)) if moved is None else Propagated(((source, moved),))

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """From input channels to output channels."""
        moved = self._move(node, affine, to_depth=node.op_type == "SpaceToDepth")
        return channel_axis_lost(_why(node)) if moved is None else Propagated(((node.outputs[0], moved),))

    def _move(self, node: ir.Node, affine: Affine, *, to_depth: bool) -> Affine | None:
        if not affine.varying():
            return affine
        if affine.varying() != (1,):
            return None
        count = int(g.attr_int(node, "blocksize", 1)) ** 2
        columns = node.op_type == "DepthToSpace" and g.attr_str(node, "mode", "DCR") == "CRD"
        if to_depth:
            return affine.map(
                lambda array: np.repeat(array, count, 1) if columns else np.tile(array, (1, count, 1, 1))
            )

        def blocks(array: Float64Array) -> Float64Array:
            shape = (-1, count) if columns else (count, -1)
            table = array.reshape(shape)
            return table.T if columns else table

        scale, shift = blocks(affine.scale), blocks(affine.shift)
        if np.any(scale != scale[:1]) or np.any(shift != shift[:1]):
            return None
        return Affine(scale[:1].reshape(1, -1, 1, 1), shift[:1].reshape(1, -1, 1, 1))


def _why(node: ir.Node) -> str:
    return f"{label(node)} interleaves channels that are not scaled alike"


RULE = DepthSpaceRule()
