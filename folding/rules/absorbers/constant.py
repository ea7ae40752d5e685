"""A constant where an activation could stand: it takes scale and shift itself.

    c, read as input `index` of one node        Given: s*c + t        Result: the node reads a new constant

An embedding table before its Gather, a class token or a map of coordinates in a Concat.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding.ir.types import Float64Array
from folding.rules.absorbers import quantized
from folding.rules.absorbers.linear import Linear, Vector, constant_weight
from folding.rules.affine import Affine
from folding.rules.base import Skip
from folding.rules.interface import Absorbed, Context, Move, Side, channel_axis_lost, unknown


def reader(value: ir.Value, users: frozenset[ir.Node], ctx: Context) -> tuple[ir.Node, int] | None:
    """The one place among `users` that reads a constant (or one that a caller may override); else None."""
    if not ctx.constants.is_const(value) and not ctx.constants.overridable(value):
        return None
    uses = [(use.node, use.idx) for use in value.uses() if use.node in users]
    return uses[0] if len(uses) == 1 else None


def absorb(value: ir.Value, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
    """Into the constant as that node reads it; other readers keep it as it is."""
    affine = affine.compressed()
    shape = constant_weight(node, index, ctx)
    if isinstance(shape, Skip):
        return shape
    varying = affine.varying()
    if len(shape) != affine.rank or len(varying) > 1:
        return channel_axis_lost(
            f"constant `{value.name}` has shape {list(shape)}, the affine varies along {list(varying)}"
        )
    known = ctx.tables.get((node, index))
    assert known is None or isinstance(known, Linear)
    axis = varying[0] if varying else known.out_axis if known is not None else 0
    if not shape:
        return unknown(node, f"constant `{value.name}` has no axes")
    if known is not None and known.out_axis != axis:
        return channel_axis_lost(f"constant `{value.name}` is scaled along axis {known.out_axis} already")
    vectors = affine.vector(axis, shape[axis])
    if vectors is None:
        return channel_axis_lost(f"constant `{value.name}` has {shape[axis]} elements on axis {axis}")
    table = _table(node, index, axis, shape) if known is None else known
    ctx.tables[node, index] = table
    return quantized.refusal(table, Side.INTO_PRODUCER, *vectors, ctx) or Absorbed(
        table, Side.INTO_PRODUCER, *vectors, affine
    )


def _table(node: ir.Node, index: int, axis: int, shape: tuple[int, ...]) -> Linear:
    lines = tuple(-1 if i == axis else 1 for i in range(len(shape)))

    def along(vector: Vector) -> Float64Array:
        return vector.reshape(lines)

    def nothing(weights: Float64Array, shift: Vector) -> Vector:
        return np.zeros(shape[axis])

    return Linear(
        node, index, index, axis, shape[axis], axis, 1,
        out_factor=along, in_factor=lambda scale: np.ones((1,) * len(shape)), contract=nothing,
        bias_index=None, shift_in_weights=True,
    )  # fmt: skip
