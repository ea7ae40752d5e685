"""Gather from a constant table (embeddings): the table takes scale and shift alike.

W (V, D); y = W[indices] (..., D)       Given: s*y + t      Result: (W*s + t)[indices]
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding import graph as g
from folding.norms.base import Float64Array
from folding.rules.absorbers.linear import Linear, LinearRule, Vector, constant_weight
from folding.rules.base import Skip
from folding.rules.moves import Context, label, lost, unknown


class GatherTableRule(LinearRule):
    """See the module. Reached through `transparent.select`, which owns the operator."""

    ops = ()

    def describe(self, node: ir.Node, ctx: Context) -> Linear | Skip:
        """Channels are the table's other axis."""
        shape = constant_weight(node, 0, ctx)
        if isinstance(shape, Skip):
            return shape
        indices = node.inputs[1]
        width = None if indices is None else ctx.rank(indices)
        if width is None:
            return unknown(node, "the rank of its indices is unknown")
        if len(shape) != 2:
            return lost(f"{label(node)} gathers from a table of shape {shape}")
        axis = g.attr_int(node, "axis", 0) % 2

        def along(vector: Vector) -> Float64Array:
            return vector.reshape((1, -1) if axis == 0 else (-1, 1))

        return Linear(
            node, 1, 0, width if axis == 0 else 0, shape[1 - axis], 0, 1,
            out_factor=along,
            in_factor=lambda scale: np.ones((1, 1)),
            contract=lambda weights, shift: np.zeros(shape[1 - axis]),
            bias_index=None,
            shift_in_weights=True,
        )  # fmt: skip


RULE = GatherTableRule()
