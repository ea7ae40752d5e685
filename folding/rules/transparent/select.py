"""Slice, and Gather with constant indices: some elements along an axis.

into_producer   the elements that are not selected keep the identity (nobody else reads them, or only other
                Slices that select none of ours: see `slice_coverage`)
into_consumer   the selected part of the affine goes on
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.ir.types import Array, Float64Array
from folding.rules.affine import Affine
from folding.rules.interface import Context, Move, Propagated, channel_axis_lost, label, unknown

Picks = dict[int, Array]


class SliceRule:
    """Any number of axes, any step."""

    ops = ("Slice",)

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Spread over the whole input."""
        source = node.inputs[0]
        picked = picks(node, affine, ctx)
        if picked is None or source is None:
            return unknown(node, "what it selects is computed at run time")
        shape = ctx.dims(source)
        for axis, chosen in picked.items():
            size = shape[axis] if shape is not None else None
            if not isinstance(size, int):
                return unknown(node, f"axis {axis} has no static size")
            affine = spread(affine, axis, chosen, size)
        return Propagated(((source, affine),))

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Take what is selected."""
        picked = picks(node, affine, ctx)
        if index != 0 or picked is None:
            return unknown(node, "what it selects is computed at run time")
        for axis, chosen in picked.items():
            affine = affine.map(lambda array, c=chosen, a=axis: array.take(c, axis=a))  # type: ignore[misc]
        return Propagated(((node.outputs[0], affine),))


def picks(node: ir.Node, affine: Affine, ctx: Context) -> Picks | None:
    """Per varying axis that the Slice cuts, the selected positions; None when that cannot be told."""
    source = node.inputs[0]
    shape = None if source is None else ctx.dims(source)
    parts = [
        _operand(node, i, name, ctx) for i, name in enumerate(("starts", "ends", "axes", "steps"), start=1)
    ]
    starts, ends, axes, steps = parts
    if shape is None or starts is None or ends is None or len(starts) == 0:
        return None
    axes = axes if axes is not None and len(axes) else np.arange(len(starts))
    steps = steps if steps is not None and len(steps) else np.ones(len(starts), dtype=np.int64)
    result: Picks = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        at = int(axis) % len(shape)
        if at not in affine.varying():
            continue
        size = shape[at]
        if not isinstance(size, int):
            return None
        stop = None if step < 0 and end < -(1 << 30) else int(end)
        result[at] = np.arange(size)[slice(int(start), stop, int(step))]
    return result


def _operand(node: ir.Node, index: int, name: str, ctx: Context) -> Array | None:
    value = g.input_at(node, index)
    if value is None:
        given = g.attr_ints(node, name)
        return None if given is None else np.array(given)
    return ctx.constants.evaluate(value).reshape(-1) if ctx.constants.is_const(value) else None


def spread(affine: Affine, axis: int, chosen: Array, size: int) -> Affine:
    """The affine at the chosen positions of an axis of `size`, the identity elsewhere."""

    def place(array: Float64Array, fill: float) -> Float64Array:
        shape = list(array.shape)
        shape[axis] = size
        result = np.full(shape, fill)
        index: list[slice | Array] = [slice(None)] * array.ndim
        index[axis] = chosen
        result[tuple(index)] = array
        return result

    return Affine(place(affine.scale, 1.0), place(affine.shift, 0.0))


@dataclass(frozen=True, eq=False)
class SliceCoverage:
    """Who reads a value: how many Slices see each position of an axis, and who is no such Slice."""

    slices: frozenset[ir.Node]
    seen: Array
    others: tuple[tuple[ir.Node, int], ...]


def slice_coverage(value: ir.Value, affine: Affine, ctx: Context) -> SliceCoverage | None:
    """One count for all Slices that cut the affine's one axis; None where the affine has more or none."""
    if len(affine.varying()) != 1:
        return None
    axis = affine.varying()[0]
    seen = np.zeros(affine.scale.shape[axis], np.int64)
    slices, others = [], []
    for use in value.uses():
        picked = picks(use.node, affine, ctx) if g.is_op(use.node, "Slice") and use.idx == 0 else None
        if picked is None or axis not in picked:
            others.append(use)
        else:
            seen[picked[axis]] += 1
            slices.append(use.node)
    return SliceCoverage(frozenset(slices), seen, tuple(others))


def alone_among_slices(count: SliceCoverage, users: frozenset[ir.Node], affine: Affine) -> bool:
    """Whether each position that the affine changes is seen by one Slice, which is the one that asks."""
    if not users <= count.slices:
        return False
    axis = affine.varying()[0]
    changed = (affine.scale != 1.0) | (affine.shift != 0.0)
    return bool(np.all(count.seen[changed.any(axis=tuple(i for i in range(affine.rank) if i != axis))] == 1))


class GatherRule:
    """Selects along one axis. A constant table then takes the affine itself."""

    ops = ("Gather",)

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Into the table, or on to the data."""
        table, indices = node.inputs[0], node.inputs[1]
        if table is None or indices is None:
            return unknown(node, "an input is absent")
        axis, width = self._frame(node, affine.rank, ctx, output=True)
        shape = ctx.dims(table)
        if axis is None or width is None or shape is None:
            return unknown(node, "ranks are unknown")
        touched = [a for a in affine.varying() if axis <= a < axis + width]
        if not touched:
            return Propagated(((table, affine.map(lambda array: _merge(array, axis, width))),))
        size, chosen = shape[axis], _operand(node, 1, "indices", ctx)
        if width != 1 or chosen is None or not isinstance(size, int):
            return channel_axis_lost(
                f"{label(node)} selects channels by indices that are computed at run time"
            )
        positions = chosen % size
        if len(set(positions.tolist())) != len(positions):
            return channel_axis_lost(f"{label(node)} selects a channel twice")
        return Propagated(((table, spread(affine, axis, positions, size)),))

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Take what is selected."""
        axis, width = self._frame(node, affine.rank, ctx, output=False)
        if index != 0 or axis is None or width is None:
            return unknown(node, "it is the indices, not the data")
        if axis not in affine.varying():
            return Propagated(((node.outputs[0], affine.map(lambda array: _split(array, axis, width))),))
        chosen = _operand(node, 1, "indices", ctx)
        if width != 1 or chosen is None:
            return channel_axis_lost(
                f"{label(node)} selects channels by indices that are computed at run time"
            )
        return Propagated(((node.outputs[0], affine.map(lambda array: array.take(chosen, axis=axis))),))

    def _frame(
        self, node: ir.Node, rank: int, ctx: Context, *, output: bool
    ) -> tuple[int | None, int | None]:
        indices = node.inputs[1]
        width = None if indices is None else ctx.rank(indices)
        if width is None:
            return None, None
        data_rank = rank - width + 1 if output else rank
        return g.attr_int(node, "axis", 0) % data_rank, width


def _merge(array: Float64Array, axis: int, width: int) -> Float64Array:
    return array.reshape((*array.shape[:axis], 1, *array.shape[axis + width :]))


def _split(array: Float64Array, axis: int, width: int) -> Float64Array:
    return array.reshape((*array.shape[:axis], *(1,) * width, *array.shape[axis + 1 :]))


SLICE, GATHER = SliceRule(), GatherRule()
