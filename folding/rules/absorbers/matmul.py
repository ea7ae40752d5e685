"""MatMul of any rank, with or without the Add that is its bias.

    x (..., M, K), W (K, N) or (..., K, N):   channels are the last axis, on both sides
    W (..., M, K), x (..., K, N):             channels are the axis before the last, on both sides

Given:  y = BatchNormalization(MatMul(x, W) + b)   Result: y = MatMul(x, W*s_out) + (s_out*b + t_out)
Given:  y = MatMul(BatchNormalization(x), W) + b   Result: y = MatMul(x, s_in*W) + (b + t_in W)
The bias becomes an Add, or the C of a Gemm where x has rank 2 (one node fewer). Several matrices answer a
shift with several biases: a map (..., 1, N), written where it is smaller than x.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.ir.types import Float64Array
from folding.norms import elementwise
from folding.rules.absorbers.linear import Linear, Vector, constant_weight
from folding.rules.absorbers.linear_rule import LinearRule
from folding.rules.base import Skip
from folding.rules.interface import Context, channel_axis_lost, label


class MatMulRule(LinearRule):
    """See the module."""

    ops = ("MatMul",)

    def describe(self, node: ir.Node, ctx: Context) -> Linear | Skip:
        """Weights on the right, or, failing that, on the left."""
        right = constant_weight(node, 1, ctx)
        if not isinstance(right, Skip):
            return self._side(node, right, 1, ctx)
        left = constant_weight(node, 0, ctx)
        return right if isinstance(left, Skip) else self._side(node, left, 0, ctx)

    def _side(self, node: ir.Node, shape: tuple[int, ...], weight_index: int, ctx: Context) -> Linear | Skip:
        x = node.inputs[1 - weight_index]
        known = None if x is None else ctx.dims(x)
        if known is None:
            return channel_axis_lost(f"{label(node)}: the rank of its input is unknown")
        rank = len(known)
        if not shape or not rank:
            return channel_axis_lost(f"{label(node)} multiplies by a number")
        # as matrices: a vector on the left is a row, one on the right a column, and goes from the result
        matrix = shape if len(shape) > 1 else (1, *shape) if weight_index == 0 else (*shape, 1)
        out_rank = max(rank, len(shape)) - (rank == 1) - (len(shape) == 1)
        out_in_w, in_in_w = (-1, -2) if weight_index else (-2, -1)
        batch = matrix[:-2]
        batched = any(size != 1 for size in batch)
        out_axis = out_rank - (1 if weight_index or rank == 1 else 2) if len(shape) > 1 else 0
        if out_axis < 0 or (len(shape) == 1 and not out_rank):
            return channel_axis_lost(f"{label(node)} has no axes in its output")

        def along(vector: Vector, axis: int) -> Float64Array:
            line = vector.reshape((1, -1) if axis == -1 else (-1, 1))
            return line.reshape(-1) if len(shape) == 1 else line.reshape((1,) * len(batch) + line.shape)

        def contract(weights: Float64Array, shift: Vector) -> Vector:
            flat = weights.reshape(matrix[-2:])
            return np.asarray(shift @ flat if weight_index else flat @ shift)

        def per_matrix(weights: Float64Array, shift: Vector) -> Float64Array:
            reply = shift @ weights if weight_index else weights @ shift  # (*batch, out)
            line = [1] * out_rank
            line[out_axis] = reply.shape[-1]
            if rank > 1:
                line[out_rank - 2 - len(batch) : out_rank - 2] = batch
            else:
                line[: len(batch)] = batch
            return reply.reshape(line)

        add, add_index = _bias_add(node, out_axis, matrix[out_in_w], ctx)
        activation = prod(dim for dim in known if isinstance(dim, int))
        return Linear(
            node, 1 - weight_index, weight_index, out_axis, matrix[out_in_w],
            rank - (1 if weight_index or rank == 1 else 2), matrix[in_in_w],
            out_factor=lambda scale: along(scale, out_in_w),
            in_factor=lambda scale: along(scale, in_in_w),
            contract=contract,
            bias_index=None,
            bias_layout=lambda vector: vector.reshape((-1,) + (1,) * (out_rank - 1 - out_axis)),
            add=add,
            add_index=add_index,
            padded=batched,  # one shift through several matrices is no single bias
            border=per_matrix,
            border_pays=batched and prod(batch) * matrix[out_in_w] < activation,
        )  # fmt: skip


def biased_by(node: ir.Node, ctx: Context) -> Linear | None:
    """The MatMul whose bias this Add is, or None."""
    for value in node.inputs:
        producer = None if value is None else value.producer()
        if producer is not None and g.is_op(producer, "MatMul"):
            found = RULE.linear(producer, ctx)
            if isinstance(found, Linear) and found.add is node:
                return found
    return None


def _bias_add(node: ir.Node, axis: int, size: int, ctx: Context) -> tuple[ir.Node | None, int]:
    """The Add of a constant vector along the channels that directly follows, and which input holds it."""
    value = node.outputs[0]
    uses = value.uses()
    if len(uses) != 1 or value.is_graph_output():
        return None, 1
    user = uses[0].node  # type: ignore[index]
    if not g.is_op(user, "Add"):
        return None, 1
    step = elementwise.step(user, ctx.constants)
    if step is None or step.const is None:
        return None, 1
    const = elementwise.align(user, np.empty(ctx.constants.shape(step.const) or ()), ctx.rank(value) or 0)
    if any(dim != 1 for i, dim in enumerate(const.shape) if i != axis):
        return None, 1
    return user, 1 - step.x_index


RULE = MatMulRule()
