"""Nodes all of whose data inputs bring the same affine: it passes as one.

    a_1, a_2, ... are values that one affine was offered through, on several ways from one norm

Given:  Concat(s*a_1 + t, s*a_2 + t)     Result: s*Concat(a_1, a_2) + t      s, t alike along the joined axis
Given:  (s*a_1 + t_1) + (s*a_2 + t_2)    Result: s*(a_1 + a_2) + (t_1 + t_2)         Sub likewise, with -t_2
Given:  Max(s*a_1 + t, s*a_2 + t)        Result: s*Max(a_1, a_2) + t         s >= 0; Min likewise
Given:  Where(c, s*a_1 + t, s*a_2 + t)   Result: s*Where(c, a_1, a_2) + t

Circular and replicate padding written as Slice and Concat is the usual case: each edge is cut off the norm's
own output and put beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.rules.affine import Affine
from folding.rules.interface import Context
from folding.rules.transparent.addition import spans

_SUMS = ("Add", "Sub", "Sum")
_EQUAL = ("Max", "Min", "Where")


def same(one: Affine, other: Affine) -> bool:
    """Whether two affines do the same to a value."""
    a, b = one.compressed(), other.compressed()
    return (
        a.scale.shape == b.scale.shape
        and bool(np.all(a.scale == b.scale))
        and bool(np.all(a.shift == b.shift))
    )


@dataclass(eq=False)
class Joins:
    """Affines that have arrived at nodes which wait for the rest of their inputs."""

    ctx: Context
    arrived: dict[ir.Node, dict[int, Affine]] = field(default_factory=dict)

    def waits(self, node: ir.Node, index: int, affine: Affine) -> bool:
        """Whether the node could pass the affine if all its data inputs brought it."""
        if index not in _data_inputs(node) or len(_data_inputs(node)) < 2:
            return False
        if any(self.ctx.constants.is_const(node.inputs[i]) for i in _data_inputs(node)):
            return False
        if g.is_op(node, "Concat"):
            return g.attr_int(node, "axis", 1) % affine.rank not in affine.varying()
        return all(spans(node, node.inputs[i], affine, self.ctx) is None for i in _data_inputs(node))

    def arrive(self, node: ir.Node, index: int, affine: Affine) -> Affine | None:
        """Note an arrival; the affine of the node's output once all inputs brought theirs and they agree."""
        here = self.arrived.setdefault(node, {})
        here[index] = affine
        if len(here) < len(_data_inputs(node)):
            return None
        joined = _joined(node, [here[i] for i in _data_inputs(node)])
        if joined is not None:
            del self.arrived[node]
        return joined

    def rest(self) -> Iterator[tuple[ir.Node, int, Affine]]:
        """What arrived at nodes whose other inputs never brought it: each goes on by its own rule."""
        for node, affines in list(self.arrived.items()):
            del self.arrived[node]
            for index, affine in affines.items():
                yield node, index, affine


def _data_inputs(node: ir.Node) -> range:
    if g.is_op(node, "Where"):
        return range(1, 3)
    return range(len(node.inputs)) if g.is_op(node, "Concat", *_SUMS, "Max", "Min") else range(0)


def _joined(node: ir.Node, affines: list[Affine]) -> Affine | None:
    first = affines[0]
    if g.is_op(node, *_SUMS):
        if not all(same(first.scale_only(), other.scale_only()) for other in affines):
            return None
        signs = [1.0, -1.0] if node.op_type == "Sub" else [1.0] * len(affines)
        shape = np.broadcast_shapes(*(affine.shift.shape for affine in affines))
        shift = sum(
            (sign * affine.shift for sign, affine in zip(signs, affines, strict=True)), np.zeros(shape)
        )
        return Affine.of(first.scale, np.asarray(shift))
    if not all(same(first, other) for other in affines):
        return None
    return first if first.non_negative or not g.is_op(node, "Max", "Min") else None
