"""Both directions of a rule for an operator that describes itself as a `Linear`."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from folding.rules.absorbers import quantized
from folding.rules.absorbers.linear import Linear
from folding.rules.affine import Affine
from folding.rules.base import Skip, SkipReason
from folding.rules.interface import Absorbed, Context, Move, Side, channel_axis_lost, label


class LinearRule:
    """Both directions for an operator that `describe` knows."""

    ops: tuple[str, ...] = ()

    def describe(self, node: ir.Node, ctx: Context) -> Linear | Skip:
        """The node as a Linear, or why it cannot absorb."""
        raise NotImplementedError

    def linear(self, node: ir.Node, ctx: Context) -> Linear | Skip:
        """`describe`, once per node: what it has absorbed lives on the record."""
        known = ctx.memo.get(node)
        if known is None:
            known = self.describe(node, ctx)
            if isinstance(known, Skip):
                known = replace(known, always=True)
            ctx.memo[node] = known
        assert isinstance(known, Linear | Skip)
        return known

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Scale rows of W and the bias; shift the bias."""
        found = self.linear(node, ctx)
        if isinstance(found, Skip):
            return found
        if found.out_axis >= affine.rank:
            return channel_axis_lost(f"{label(node)} has no channel axis in its output")
        vectors = affine.vector(found.out_axis, found.out_size)
        if vectors is None:
            sizes = [affine.scale.shape[axis] for axis in affine.varying()]
            return channel_axis_lost(
                f"{label(node)} has its {found.out_size} channels on axis {found.out_axis}, "
                f"the affine varies along {list(affine.varying())} with sizes {sizes}"
            )
        return quantized.refusal(found, Side.INTO_PRODUCER, *vectors, ctx) or Absorbed(
            found, Side.INTO_PRODUCER, *vectors, affine
        )

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Scale columns of W; send the shift through W into the bias, or into a border map."""
        found = self.linear(node, ctx)
        if isinstance(found, Skip):
            return found
        if index != found.x_index:
            return Skip(SkipReason.RUNTIME_WEIGHTS, f"{label(node)} reads it as input {index}, not as x")
        vectors = affine.vector(found.in_axis, found.in_size)
        if vectors is None:
            return channel_axis_lost(
                f"{label(node)} sums over {found.in_size} channels on axis {found.in_axis}, "
                f"the affine varies along {list(affine.varying())}"
            )
        if affine.has_shift and found.padded and not found.border_pays:
            return Skip(
                SkipReason.PADDED_SHIFT,
                f"{label(node)} pads with zeros, so a shifted input does not shift its border alike",
            )
        return quantized.refusal(found, Side.INTO_CONSUMER, *vectors, ctx) or Absorbed(
            found, Side.INTO_CONSUMER, *vectors, affine
        )
