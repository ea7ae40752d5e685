"""Norms that end in a per-channel affine of their own: it absorbs the next one.

    y = normalized(x) * scale + bias        Given: s*y + t        Result: scale' = s*scale, bias' = s*bias + t

LayerNormalization (last axis), InstanceNormalization and GroupNormalization (axis 1; per channel since
opset 21), and a BatchNormalization that normalizes with its batch.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding.rules.absorbers.linear import Linear, constant_weight
from folding.rules.absorbers.linear_rule import LinearRule
from folding.rules.affine import Affine
from folding.rules.base import Skip, SkipReason
from folding.rules.interface import Context, Move, channel_axis_lost, label, unknown


class NormParametersRule(LinearRule):
    """See the module."""

    ops = ("LayerNormalization", "InstanceNormalization", "GroupNormalization", "BatchNormalization")

    def describe(self, node: ir.Node, ctx: Context) -> Linear | Skip:
        """The scale plays the weights, one per channel."""
        shape = constant_weight(node, 1, ctx)
        if isinstance(shape, Skip):
            return shape
        out = ctx.dims(node.outputs[0])
        if out is None:
            return unknown(node, "its rank is unknown")
        axis = len(out) - 1 if node.op_type == "LayerNormalization" else 1
        if len(shape) != 1 or axis >= len(out) or out[axis] != shape[0]:
            return channel_axis_lost(f"{label(node)} has no scale per channel (shape {shape})")
        return Linear(
            node, 0, 1, axis, shape[0], axis, shape[0],
            out_factor=lambda scale: scale,
            in_factor=lambda scale: np.ones(1),
            contract=lambda weights, shift: np.zeros(shape[0]),
        )  # fmt: skip

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """What comes before is normalized away or not, but never absorbed."""
        return Skip(SkipReason.NONLINEARITY_BETWEEN, f"read by {label(node)}, which normalizes it")


RULE = NormParametersRule()
