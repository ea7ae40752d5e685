"""Add, Sub, Sum of run-time values: the scale goes into each, the shift into one.

Given:  s*(a + b) + t    Result: (s*a + t) + s*b    all branches must take theirs
Given:  (a' + t) + b     Result: (a' + b) + t       into_consumer: the shift passes, a scale does not
"""

from __future__ import annotations

import onnx_ir as ir

from folding.ir import query as g
from folding.rules.absorbers import matmul
from folding.rules.affine import Affine
from folding.rules.base import Skip, SkipReason
from folding.rules.interface import Context, Move, Propagated, label, unknown


class AdditionRule:
    """See the module."""

    ops = ("Add", "Sub", "Sum")

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Every input has to be able to take the scale; the shift goes to the likeliest."""
        owner = matmul.biased_by(node, ctx)
        if owner is not None:
            return matmul.RULE.into_producer(owner.node, 0, affine, ctx)
        inputs = [value for value in node.inputs if value is not None]
        if len(set(inputs)) == 1 and node.op_type != "Sub":  # a + a: the shift is halved
            each = Affine(affine.scale, affine.shift / len(inputs))
            return Propagated(((inputs[0], each),))
        for value in inputs:
            refusal = spans(node, value, affine, ctx)
            if refusal is not None:
                return refusal
        host = _shift_host(node, inputs)
        parts = []
        for i, value in enumerate(inputs):
            part = affine if i == host else affine.scale_only()
            if i == host and node.op_type == "Sub" and i == 1:
                part = Affine(affine.scale, -affine.shift)
            parts.append((value, part))
        return Propagated(tuple(parts))

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Only a shift can leave one summand for the sum."""
        if affine.has_scale:
            return Skip(
                SkipReason.NO_LINEAR_NEIGHBOUR, f"{label(node)} sums it with a value that is not scaled alike"
            )
        refusal = spans(node, node.inputs[index], affine, ctx)
        if refusal is not None:
            return refusal
        negative = node.op_type == "Sub" and index == 1
        return Propagated(((node.outputs[0], Affine(affine.scale, -affine.shift) if negative else affine),))


def spans(node: ir.Node, value: ir.Value | None, affine: Affine, ctx: Context) -> Skip | None:
    """Whether `value` has the output's rank and, on the affine's axes, its size: no broadcasting there."""
    if value is None:
        return unknown(node, "an input is absent")
    shape, out = ctx.dims(value), ctx.dims(node.outputs[0])
    if "axis" in node.attributes:
        return unknown(node, "broadcasting by attribute")
    if shape is None or out is None or len(shape) != len(out) or len(out) != affine.rank:
        return unknown(node, f"`{value.name}` broadcasts or has no known rank")
    for axis in affine.varying():
        if shape[axis] != affine.scale.shape[axis]:
            return unknown(node, f"`{value.name}` may broadcast along axis {axis}")
    return None


def _shift_host(node: ir.Node, inputs: list[ir.Value]) -> int:
    """Prefer a branch whose producer has a bias input: its shift costs no node."""
    for i, value in enumerate(inputs):
        if g.is_op(value.producer(), "Conv", "ConvTranspose", "Gemm"):
            return i
    for i, value in enumerate(inputs):
        producer = value.producer()
        if producer is not None and not g.is_op(producer, "MatMul"):
            return i
    return 0


__all__ = ["RULE", "AdditionRule", "spans"]
RULE = AdditionRule()
