"""Concat: each branch takes its slice of the affine. Split: each output is one.

    along another axis, every branch takes the whole affine
into_consumer: the other branches' channels get the identity, and the affine goes on behind the Concat
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.ir.types import Float64Array
from folding.rules.affine import Affine
from folding.rules.interface import Context, Move, Propagated, unknown


class ConcatRule:
    """See the module."""

    ops = ("Concat",)

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Split the affine by branch."""
        axis = g.attr_int(node, "axis", 1) % affine.rank
        inputs = [value for value in node.inputs if value is not None]
        if axis not in affine.varying():
            return Propagated(tuple((value, affine) for value in inputs))
        sizes = [_size(value, axis, ctx) for value in inputs]
        if (
            not all(isinstance(size, int) for size in sizes)
            or sum(s for s in sizes if s) != affine.scale.shape[axis]
        ):
            return unknown(node, "the channels of a branch are unknown")
        ends = np.cumsum([size for size in sizes if size is not None])
        parts = []
        for value, size, end in zip(inputs, sizes, ends, strict=True):
            window = np.arange(int(end) - int(size or 0), int(end))
            parts.append((value, affine.map(lambda a, w=window: a.take(w, axis=axis))))  # type: ignore[misc]
        return Propagated(tuple(parts))

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Identity for the channels of the other branches."""
        axis = g.attr_int(node, "axis", 1) % affine.rank
        before = [_size(value, axis, ctx) for value in node.inputs[:index]]
        own = _size(node.inputs[index], axis, ctx)
        total = _size(node.outputs[0], axis, ctx)
        if own is None or total is None or any(size is None for size in before):
            return unknown(node, "the channels of a branch are unknown")
        start = sum(size for size in before if size is not None)
        return Propagated(((node.outputs[0], embed(affine, axis, start, own, total)),))


class SplitRule:
    """Split and its inverse; an affine that does not vary along the split axis is one for all parts."""

    ops = ("Split",)

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """The channels of the other outputs keep the identity."""
        source = node.inputs[0]
        axis = g.attr_int(node, "axis", 0) % affine.rank
        sizes = [_size(value, axis, ctx) for value in node.outputs]
        total = None if source is None else _size(source, axis, ctx)
        if source is None or total is None or any(size is None for size in sizes):
            return unknown(node, "the size of a part is unknown")
        start = sum(size for size in sizes[:index] if size is not None)
        return Propagated(((source, embed(affine, axis, start, sizes[index] or 0, total)),))

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Each part takes its slice."""
        if index != 0:
            return unknown(node, "it is the sizes, not the data")
        axis = g.attr_int(node, "axis", 0) % affine.rank
        if axis not in affine.varying():
            return Propagated(tuple((value, affine) for value in node.outputs))
        parts, start = [], 0
        for value in node.outputs:
            size = _size(value, axis, ctx)
            if size is None:
                return unknown(node, "the size of a part is unknown")
            window = np.arange(start, start + size)
            parts.append((value, affine.map(lambda a, w=window: a.take(w, axis=axis))))  # type: ignore[misc]
            start += size
        if start != affine.scale.shape[axis]:
            return unknown(node, "the parts do not add up")
        return Propagated(tuple(parts))


def embed(affine: Affine, axis: int, start: int, size: int, total: int) -> Affine:
    """The affine for channels start..start+size of `total`, the identity for the others."""

    def place(array: Float64Array, fill: float) -> Float64Array:
        shape = list(array.shape)
        shape[axis] = total
        result = np.full(shape, fill)
        index: list[slice] = [slice(None)] * array.ndim
        index[axis] = slice(start, start + size)
        result[tuple(index)] = array
        return result

    return Affine(place(affine.scale, 1.0), place(affine.shift, 0.0))


def _size(value: ir.Value | None, axis: int, ctx: Context) -> int | None:
    shape = None if value is None else ctx.dims(value)
    if shape is None or axis >= len(shape):
        return None
    size = shape[axis]
    return size if isinstance(size, int) else None


CONCAT, SPLIT = ConcatRule(), SplitRule()
