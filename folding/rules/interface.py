"""What a rule answers when an affine arrives at its node, and what rules may ask about the graph.

An affine arrives from one of two sides:

    into_producer(node, index, affine)   output `index` of the node must become affine(output)
    into_consumer(node, index, affine)   input `index` of the node is now read before the affine was applied

and the answer is one of three: `Absorbed` (constants of the node can take it), `Propagated` (it goes on to
other values, all of which must accept), or `Skip` (reason and detail). Deciding changes nothing; the engine
applies a whole plan or none of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeAlias

import onnx_ir as ir

from folding.ir import query as g
from folding.ir import shapes
from folding.ir.types import Float64Array
from folding.norms.constants import Constants
from folding.options import FoldOptions
from folding.rules.affine import Affine
from folding.rules.base import Skip, SkipReason
from folding.rules.patch import Patch


class Side(StrEnum):
    """Where an affine moves: into what computes the value, or into what reads it."""

    INTO_PRODUCER = "into_producer"
    INTO_CONSUMER = "into_consumer"


class Absorber(Protocol):
    """A node, or a norm that stays, whose constants can take affines. Identity is the node's."""

    name: str


@dataclass(frozen=True, eq=False)
class Absorbed:
    """The absorber takes (scale, shift), both (C,), on its output or on its input channels."""

    absorber: Absorber
    side: Side
    scale: Float64Array
    shift: Float64Array
    affine: Affine


@dataclass(frozen=True, eq=False)
class Propagated:
    """The affine goes on to these values, each with its own; `patch` is applied once all accepted."""

    onward: tuple[tuple[ir.Value, Affine], ...]
    patch: Patch | None = None


Move: TypeAlias = Absorbed | Propagated | Skip


class Rule(Protocol):
    """One operator, or a few that are alike. Listed in `rules.RULES`."""

    @property
    def ops(self) -> tuple[str, ...]:
        """Operators of the ONNX domain that it speaks for."""
        ...

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """See the module."""
        ...

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """See the module."""
        ...


@dataclass(eq=False)
class Context:
    """What rules may know: constants, shapes, options, and notes of what others found out."""

    model: ir.Model
    constants: Constants
    options: FoldOptions
    memo: dict[ir.Node, object] = field(default_factory=dict)
    tables: dict[tuple[ir.Node, int], Absorber] = field(default_factory=dict)  # constants that are read there
    names: set[str] = field(default_factory=set)

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return g.opset(self.model)

    def rank(self, value: ir.Value) -> int | None:
        """Rank, also where only a producer's weights tell it."""
        shape = self.dims(value)
        return None if shape is None else len(shape)

    def dims(self, value: ir.Value) -> list[int | str | None] | None:
        """Dimensions; where inference knows nothing, rank and channels from the weights next to the value."""
        known = shapes.dims(value)
        if known is None:
            known = self._by_producer(value)
        return self._by_reader(value) if known is None else known

    def _by_producer(self, value: ir.Value) -> list[int | str | None] | None:
        node = value.producer()
        if node is None:
            return None
        told = shapes.dims_by_weights(node)
        if told is not None:
            return told
        source = node.inputs[0] if shapes.keeps_shape(node) else None
        return None if source is None else self.dims(source)

    def _by_reader(self, value: ir.Value) -> list[int | str | None] | None:
        for node, index in value.uses():
            if index == 0 and g.is_op(node, "Conv", "ConvTranspose") and len(node.inputs) > 1:
                weight = shapes.dims(node.inputs[1])
                if weight is not None:
                    return [None] * len(weight)
            if index < 2 and g.is_op(node, "Gemm"):
                return [None, None]
        return None

    def unique(self, base: str) -> str:
        """A name that nothing in the model has."""
        name, count = base, 0
        while name in self.names:
            count += 1
            name = f"{base}_{count}"
        self.names.add(name)
        return name


def channel_axis_lost(detail: str) -> Skip:
    """The affine does not line up with the node's channels."""
    return Skip(SkipReason.CHANNEL_AXIS_LOST, detail)


def unknown(node: ir.Node, what: str) -> Skip:
    """A shape or attribute that had to be known is not."""
    return Skip(SkipReason.UNKNOWN_SHAPE, f"{label(node)}: {what}")


def label(node: ir.Node) -> str:
    """How a node is named to people."""
    name = node.name or (node.outputs[0].name if node.outputs else "") or "?"
    return f"{node.op_type} `{name}`"
