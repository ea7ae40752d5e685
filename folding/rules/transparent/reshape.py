"""Reshape, Flatten, Squeeze, Unsqueeze: the same numbers in the same order under another shape.

The two shapes are cut into groups of axes with equal element counts, from both ends; what is not known
(a dynamic batch) must fall into a group that the affine does not touch. Within a group the affine is
broadcast, reshaped, and compressed again:

    (N, C, H, W) -> (N, C*H*W)      into_consumer: each channel repeats H*W times
    (N, C*H*W)   -> (N, C, H, W)    into_producer: only if all H*W numbers of a channel are equal
    (N, g*C, H, W) -> (N, g, C, H, W)   both ways: splits into two axes and comes together again
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from folding.ir.types import Float64Array
from folding.rules.affine import Affine
from folding.rules.base import Skip
from folding.rules.interface import Context, Move, Propagated, channel_axis_lost, label, unknown

_MAX_ELEMENTS = 1 << 24  # numbers that one group of axes may be broadcast to
Dim = int | str | None
Group = tuple[tuple[int, int], tuple[int, int]]


class ReshapeRule:
    """See the module."""

    ops = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """From the output's shape to the input's."""
        source = node.inputs[0]
        if source is None:
            return unknown(node, "no input")
        moved = self._move(node, affine, ctx.dims(node.outputs[0]), ctx.dims(source))
        return moved if isinstance(moved, Skip) else Propagated(((source, moved),))

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """From the input's shape to the output's."""
        source = node.inputs[0]
        if source is None or index != 0:
            return unknown(node, "it is the shape, not the data")
        moved = self._move(node, affine, ctx.dims(source), ctx.dims(node.outputs[0]))
        return moved if isinstance(moved, Skip) else Propagated(((node.outputs[0], moved),))

    def _move(
        self, node: ir.Node, affine: Affine, old: Sequence[Dim] | None, new: Sequence[Dim] | None
    ) -> Affine | Skip:
        if old is None or new is None or len(old) != affine.rank:
            return unknown(node, "the shape before or after it is unknown")
        moved = regroup(affine, old, new)
        if moved is None and len(groups_touched(affine, old, new)) > 1:
            along = list(affine.varying())
            return channel_axis_lost(
                f"{label(node)}: {list(old)} to {list(new)}, and the affine varies along {along}"
            )
        return moved or unknown(node, f"{list(old)} to {list(new)} mixes the channels with unknown axes")


def regroup(affine: Affine, old: Sequence[Dim], new: Sequence[Dim]) -> Affine | None:
    """The affine over `old` seen over `new`; None where the shapes do not tell."""
    touched = groups_touched(affine, old, new)
    if not touched:
        return affine.map(lambda array: array.reshape((1,) * len(new)))
    if len(touched) > 1:
        return None
    (a0, a1), (b0, b1) = touched[0]
    sizes = [dim for dim in old[a0:a1] if isinstance(dim, int)]
    targets = [dim for dim in new[b0:b1] if isinstance(dim, int)]
    if len(sizes) < a1 - a0 or len(targets) < b1 - b0 or prod(sizes) > _MAX_ELEMENTS:
        return None
    full = (*(1,) * a0, *sizes, *(1,) * (len(old) - a1))
    shape = (*(1,) * b0, *targets, *(1,) * (len(new) - b1))

    def over(array: Float64Array) -> Float64Array:
        return np.broadcast_to(array, full).reshape(shape)

    return affine.map(over).compressed()


def groups_touched(affine: Affine, old: Sequence[Dim], new: Sequence[Dim]) -> list[Group]:
    """Groups in which the affine varies."""
    return [group for group in groups(old, new) if any(affine.scale.shape[a] != 1 for a in range(*group[0]))]


def groups(old: Sequence[Dim], new: Sequence[Dim]) -> list[Group]:
    """Cut both shapes into runs of axes with equal products; at most one run in the middle stays unknown."""
    right, (i, j) = _from_right(old, new)
    left, (p, q) = _from_left(old[:i], new[:j])
    middle: list[Group] = [((p, i), (q, j))] if p < i or q < j else []
    return left + middle + right


def _from_right(old: Sequence[Dim], new: Sequence[Dim]) -> tuple[list[Group], tuple[int, int]]:
    found = _scan(list(reversed(old)), list(reversed(new)))
    m, n = len(old), len(new)
    flipped = [((m - a1, m - a0), (n - b1, n - b0)) for (a0, a1), (b0, b1) in found]
    end = (flipped[-1][0][0], flipped[-1][1][0]) if flipped else (m, n)
    return flipped[::-1], end


def _from_left(old: Sequence[Dim], new: Sequence[Dim]) -> tuple[list[Group], tuple[int, int]]:
    found = _scan(list(old), list(new))
    return found, ((found[-1][0][1], found[-1][1][1]) if found else (0, 0))


def _scan(old: list[Dim], new: list[Dim]) -> list[Group]:
    """Groups from the front for as long as sizes are known, or equal by name."""
    found: list[Group] = []
    i = j = 0
    while i < len(old) and j < len(new):
        a, b = old[i], new[j]
        if isinstance(a, str) and a == b:
            found.append(((i, i + 1), (j, j + 1)))
            i, j = i + 1, j + 1
            continue
        i0, j0, left, right = i, j, 1, 1
        while True:
            if i > i0 and j > j0 and left == right:
                break
            take_old = (left <= right or j >= len(new)) and i < len(old)
            if j == j0 and i > i0:
                take_old = False
            if take_old:
                dim = old[i]
                i += 1
            elif j < len(new):
                dim = new[j]
                j += 1
            else:
                return found
            if not isinstance(dim, int) or dim == 0:
                return found
            if take_old:
                left *= dim
            else:
                right *= dim
        found.append(((i0, i), (j0, j)))
    return _with_trailing_ones(found, old, new)


def _with_trailing_ones(found: list[Group], old: list[Dim], new: list[Dim]) -> list[Group]:
    """Axes of size 1 left over on one side belong to the last group."""
    i, j = (found[-1][0][1], found[-1][1][1]) if found else (0, 0)
    rest_old, rest_new = old[i:], new[j:]
    if (rest_old or rest_new) and all(dim == 1 for dim in (*rest_old, *rest_new)):
        if not found:
            return [((0, len(old)), (0, len(new)))]
        (a0, _), (b0, _) = found[-1]
        found = [*found[:-1], ((a0, len(old)), (b0, len(new)))]
    return found


RULE = ReshapeRule()
