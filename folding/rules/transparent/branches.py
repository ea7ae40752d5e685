"""If: what comes out is what one of the branches put out, so both have to take the affine."""

from __future__ import annotations

import onnx_ir as ir

from folding.ir import query as g
from folding.rules.affine import Affine
from folding.rules.base import Skip, SkipReason
from folding.rules.interface import Context, Move, Propagated, label


class IfRule:
    """Into both branches; the condition is left alone."""

    ops = ("If",)

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """To the branches' outputs."""
        inner = branches(node)
        values = [branch.outputs[index] for branch in inner]
        for value, branch in zip(values, inner, strict=True):
            if value.producer() is None or value.graph is not branch:
                return Skip(
                    SkipReason.CONTROL_FLOW_BOUNDARY,
                    f"a branch of {label(node)} hands on `{value.name}` from outside",
                )
        return Propagated(tuple((value, affine) for value in values))

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Its one input is the condition."""
        return Skip(SkipReason.CONTROL_FLOW_BOUNDARY, f"{label(node)} branches on it")


def branches(node: ir.Node) -> list[ir.Graph]:
    """Then and else."""
    return [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]


def forwarded_by_if(value: ir.Value, users: frozenset[ir.Node]) -> bool:
    """Whether being an output only means that one of `users`, an If, hands the value on, once."""
    for node in users:
        if g.is_op(node, "If") and any(value.graph is branch for branch in branches(node)):
            assert isinstance(value.graph, ir.Graph)
            return sum(item is value for item in value.graph.outputs) == 1
    return False


RULE = IfRule()
