"""Einsum of a run-time operand with constant weights.

    y = Einsum(x, w) or Einsum(w, x);  letters of x, of w and of y; every letter once in each
    free letters     of w and y, not of x: the output's channels, one letter or several
    shared letters   of w and x: the input's channels, summed over unless y has them too

Given:  y = s_out*Einsum(x, w) + t_out       Result: Einsum(x, w*s_out) + t_out      along free letters
Given:  y = Einsum(s_in*x + t_in, w)         Result: Einsum(x, w*s_in) + Einsum(t_in, w)     along shared ones
A shift is one Add behind.

Vectors are (C,) with C the product of the sizes of the letters that an affine may run along, in the order of
the output (of x, for the input). A letter of x alone has to be in y: a sum over it would multiply the shift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.ir.types import Float64Array
from folding.rules.absorbers import quantized
from folding.rules.absorbers.linear import Linear, Vector, constant_weight
from folding.rules.absorbers.linear_rule import LinearRule
from folding.rules.affine import Affine
from folding.rules.base import Skip, SkipReason
from folding.rules.interface import Absorbed, Context, Move, Side, channel_axis_lost, label

_SPARE = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # letters for the dimensions of an ellipsis


@dataclass(frozen=True)
class Letters:
    """Which letter stands for each axis of the run-time operand, of the weights and of the result."""

    x: str
    w: str
    y: str

    @property
    def free(self) -> str:
        """The output's channels, in its order."""
        return "".join(letter for letter in self.y if letter in self.w and letter not in self.x)

    @property
    def shared(self) -> str:
        """The input's channels, in x's order."""
        return "".join(letter for letter in self.x if letter in self.w)


def letters_of(equation: str, x_index: int, x_rank: int) -> Letters | None:
    """The equation's letters, an ellipsis of x written out; None for forms that no affine passes.

    Those are: not two operands, a letter twice in one (a diagonal), a sum over a letter of x alone, an
    ellipsis that the weights have too.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != 2:
        return None
    if not arrow:  # letters that stand once, in alphabetical order
        counts = {letter: left.count(letter) for letter in left if letter.isalpha()}
        right = ("..." if "..." in left else "") + "".join(sorted(c for c, n in counts.items() if n == 1))
    x, w = terms[x_index], terms[1 - x_index]
    if "..." in x:
        spare = [letter for letter in _SPARE if letter not in equation][: x_rank - len(x) + 3]
        x, right = x.replace("...", "".join(spare)), right.replace("...", "".join(spare))
    if "." in w or "." in right or len(x) != x_rank:
        return None
    if any(len(set(term)) != len(term) for term in (x, w, right)):
        return None
    alone = [letter for letter in x if letter not in w]
    return Letters(x, w, right) if all(letter in right for letter in alone) else None


def lay_out(vector: Vector, letters: str, sizes: dict[str, int], along: str) -> Float64Array:
    """A flat vector over `letters` as an array that broadcasts along the axes of `along`."""
    array = vector.reshape([sizes[letter] for letter in letters])
    order = [letters.index(letter) for letter in along if letter in letters]
    return np.transpose(array, order).reshape([sizes[c] if c in letters else 1 for c in along])


class EinsumRule(LinearRule):
    """See the module."""

    ops = ("Einsum",)

    def describe(self, node: ir.Node, ctx: Context) -> Linear | Skip:
        """The product as a Linear over flat channels."""
        if len(node.inputs) != 2:
            return channel_axis_lost(f"{label(node)} multiplies {len(node.inputs)} operands")
        weight_index = 1 if ctx.constants.is_const(node.inputs[1]) else 0
        shape = constant_weight(node, weight_index, ctx)
        if isinstance(shape, Skip):
            return shape
        found = self._letters(node, 1 - weight_index, ctx)
        if found is None or len(found.w) != len(shape) or not found.free:
            return channel_axis_lost(f"{label(node)} is no plain product with its weights")
        x = ctx.dims(node.inputs[1 - weight_index]) or []  # type: ignore[arg-type]
        sizes = dict(zip(found.w, shape, strict=True))
        if any(sizes.get(letter) == 1 != size for letter, size in zip(found.x, x, strict=True)):
            return channel_axis_lost(f"{label(node)} repeats its weights along an axis that it sums over")
        return _linear(node, weight_index, found, sizes)

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Scale the weights along free letters; the shift is one Add."""
        return self._absorb(node, affine, Side.INTO_PRODUCER, ctx)

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Scale the weights along shared letters; send the shift through them."""
        found = self.linear(node, ctx)
        if isinstance(found, Linear) and index != found.x_index:
            return channel_axis_lost(f"{label(node)} reads it as its weights")
        return self._absorb(node, affine, Side.INTO_CONSUMER, ctx)

    def _absorb(self, node: ir.Node, affine: Affine, side: Side, ctx: Context) -> Move:
        found = self.linear(node, ctx)
        if isinstance(found, Skip):
            return found
        letters = self._letters(node, found.x_index, ctx)
        assert letters is not None
        out = side == Side.INTO_PRODUCER
        if out and not affine.has_scale and not found.changed:
            return Skip(
                SkipReason.NO_LINEAR_NEIGHBOUR, f"{label(node)} has no bias: an Add would stay an Add"
            )
        axes, channels = (letters.y, letters.free) if out else (letters.x, letters.shared)
        vectors = _flat(affine, axes, channels, _sizes(letters, ctx.constants.shape(found.weight) or ()))
        if vectors is None:
            return channel_axis_lost(f"{label(node)} has its channels elsewhere than the affine")
        if not out and affine.has_shift and found.padded and not found.border_pays:
            return channel_axis_lost(
                f"{label(node)} multiplies position by position, the shift would be a map"
            )
        return quantized.refusal(found, side, *vectors, ctx) or Absorbed(found, side, *vectors, affine)

    def _letters(self, node: ir.Node, x_index: int, ctx: Context) -> Letters | None:
        x = node.inputs[x_index]
        count = None if x is None else ctx.rank(x)
        return None if count is None else letters_of(g.attr_str(node, "equation", ""), x_index, count)


def _sizes(letters: Letters, shape: Sequence[int]) -> dict[str, int]:
    return dict(zip(letters.w, shape, strict=True))


def _flat(affine: Affine, axes: str, channels: str, sizes: dict[str, int]) -> tuple[Vector, Vector] | None:
    """Scale and shift as flat vectors over the channels' letters; None where the affine runs along others."""
    if affine.rank != len(axes) or any(axes[axis] not in channels for axis in affine.varying()):
        return None
    full = [sizes[letter] if letter in channels else 1 for letter in axes]
    if any(have not in (1, want) for have, want in zip(affine.scale.shape, full, strict=True)):
        return None
    scale, shift = (np.broadcast_to(array, full).reshape(-1) for array in (affine.scale, affine.shift))
    return scale, shift


def _linear(node: ir.Node, weight_index: int, found: Letters, sizes: dict[str, int]) -> Linear:
    free, shared = found.free, found.shared
    kept = [letter for letter in shared if letter in found.y]  # one product per position: no single bias
    out_axis, in_axis = found.y.index(free[0]), found.x.index(shared[0]) if shared else 0

    def response(weights: Float64Array, shift: Vector) -> Vector:
        given = shift.reshape([sizes[letter] for letter in shared])
        return np.asarray(np.einsum(f"{shared},{found.w}->{free}", given, weights)).reshape(-1)

    return Linear(
        node, 1 - weight_index, weight_index, out_axis, prod(sizes[letter] for letter in free),
        in_axis, prod(sizes[letter] for letter in shared),
        out_factor=lambda scale: lay_out(scale, free, sizes, found.w),
        in_factor=lambda scale: lay_out(scale, shared, sizes, found.w),
        contract=response,
        bias_index=None,
        bias_layout=lambda vector: lay_out(vector, free, sizes, found.y[out_axis:]),
        padded=bool(kept),
        out_shape=tuple(sizes[letter] if letter in free else 1 for letter in found.y),
        in_shape=tuple(sizes[letter] if letter in shared else 1 for letter in found.x),
    )  # fmt: skip


RULE = EinsumRule()
