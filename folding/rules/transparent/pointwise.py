"""Nodes that change no number, or none that matters to an affine.

Identity, Dropout (inference), Cast between floating types:  y = x, hence s*y + t = s*x + t
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.rules.affine import Affine
from folding.rules.base import Skip, SkipReason
from folding.rules.interface import Context, Move, Propagated, label

_NARROW = {ir.DataType.FLOAT16: 2.0**8, ir.DataType.BFLOAT16: 2.0**60}


class SameRule:
    """Both ways, unchanged."""

    ops = ("Identity", "Dropout", "Cast")

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """To the one data input."""
        source = node.inputs[0]
        refusal = self._refusal(node, affine, ctx)
        if refusal is not None or source is None:
            return refusal or Skip(SkipReason.NO_LINEAR_NEIGHBOUR, f"{label(node)} has no input")
        return Propagated(((source, affine),))

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """To the one data output."""
        refusal = self._refusal(node, affine, ctx)
        if refusal is not None or index != 0:
            return refusal or Skip(SkipReason.NO_LINEAR_NEIGHBOUR, f"{label(node)} reads it as input {index}")
        return Propagated(((node.outputs[0], affine),))

    def _refusal(self, node: ir.Node, affine: Affine, ctx: Context) -> Skip | None:
        if node.op_type == "Dropout":
            return _training_dropout(node, ctx)
        if node.op_type == "Cast":
            return _cast(node, affine)
        return None


def _training_dropout(node: ir.Node, ctx: Context) -> Skip | None:
    """Active only with training_mode fed true (opset 12), is_test=0 (opset 6 and before), or a read mask."""
    mode = g.input_at(node, 2)
    if mode is not None and (not ctx.constants.is_const(mode) or np.any(ctx.constants.evaluate(mode))):
        return Skip(SkipReason.NONLINEARITY_BETWEEN, f"{label(node)} may be in training mode")
    if ctx.opset < 7 and not g.attr_int(node, "is_test", 0):
        return Skip(SkipReason.NONLINEARITY_BETWEEN, f"{label(node)} is in training mode (is_test=0)")
    return None


def _cast(node: ir.Node, affine: Affine) -> Skip | None:
    """Between floating types; where one side is narrow, only as long as its range is not at stake."""
    source = node.inputs[0]
    types = {
        node.outputs[0].dtype or ir.DataType(g.attr_int(node, "to", 0)),
        None if source is None else source.dtype,
    }
    if not types <= g.FLOATS:
        return Skip(SkipReason.NONLINEARITY_BETWEEN, f"{label(node)} is not between floating types")
    limit = min((_NARROW[dtype] for dtype in types if dtype in _NARROW), default=np.inf)
    size = np.abs(affine.scale[affine.scale != 0.0])
    if size.size and (size.max() > limit or size.min() < 1.0 / limit):
        reason = SkipReason.WOULD_OVERFLOW if size.max() > limit else SkipReason.WOULD_UNDERFLOW
        return Skip(reason, f"scales up to {size.max():.2g} would cross {label(node)} into a narrower type")
    return None


RULE = SameRule()
