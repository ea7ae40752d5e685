"""Mul and Div of run-time values (gates, squeeze-and-excitation): a scale passes, a shift does not.

s*(a * b) = (s*a) * b       s*(a / b) = (s*a) / b
"""

from __future__ import annotations

import onnx_ir as ir

from folding.ir import query as g
from folding.rules.affine import Affine
from folding.rules.base import Skip, SkipReason
from folding.rules.interface import Context, Move, Propagated, label, unknown
from folding.rules.transparent.addition import spans

_LIKELY = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization")


class ProductRule:
    """See the module."""

    ops = ("Mul", "Div")

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Into one factor: the one whose producer has weights, else the first that nobody else reads."""
        if affine.has_shift:
            return _shift(node)
        factors = node.inputs if node.op_type == "Mul" else node.inputs[:1]
        fitting = [v for v in factors if v is not None and spans(node, v, affine, ctx) is None]
        alone = [v for v in fitting if len(v.uses()) == 1 and v.producer() is not None]
        likely = [v for v in alone if g.is_op(v.producer(), *_LIKELY)]
        if not alone:
            return unknown(node, "none of its factors can take the scale alone")
        return Propagated((((likely or alone)[0], affine),))

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """On to the product."""
        if affine.has_shift:
            return _shift(node)
        if node.op_type == "Div" and index == 1:
            return Skip(SkipReason.NONLINEARITY_BETWEEN, f"{label(node)} divides by it")
        return spans(node, node.inputs[index], affine, ctx) or Propagated(((node.outputs[0], affine),))


def _shift(node: ir.Node) -> Skip:
    return Skip(SkipReason.NONLINEARITY_BETWEEN, f"a shift does not pass {label(node)}")


RULE = ProductRule()
