"""ReLU, LeakyReLU, PReLU: positively homogeneous, so a scale that is nowhere negative passes; a shift never.

relu(s*x) = s*relu(x)   for s >= 0
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding.rules.affine import Affine
from folding.rules.base import Skip, SkipReason
from folding.rules.interface import Context, Move, Propagated, label, unknown


class RectifierRule:
    """See the module."""

    ops = ("Relu", "LeakyRelu", "PRelu", "Abs")

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """To the data input."""
        source = node.inputs[0]
        refusal = self._refusal(node, 0, affine, ctx)
        if refusal is not None or source is None:
            return refusal or unknown(node, "no input")
        return Propagated(((source, affine),))

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """To the output."""
        return self._refusal(node, index, affine, ctx) or Propagated(((node.outputs[0], affine),))

    def _refusal(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Skip | None:
        if index != 0:
            return unknown(node, "it is the slope, not the data")
        if affine.has_shift:
            return Skip(SkipReason.NONLINEARITY_BETWEEN, f"a shift does not pass {label(node)}")
        if not affine.non_negative:
            count = int(np.sum(affine.scale < 0))
            return Skip(SkipReason.NEGATIVE_SCALE, f"{count} negative scales do not pass {label(node)}")
        return None


RULE = RectifierRule()
