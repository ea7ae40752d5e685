"""Gemm with alpha, gemm_beta, transA, transB and any C (none, scalar, row, column, matrix, run-time).

    y = alpha * A' B' + gemm_beta * C;   A' (M, K), B' (K, N), y (M, N); either A or B holds the weights

Given:  y = BatchNormalization(Gemm(x, W, C))  Result: y = Gemm(x, W*s_out, s_out*gemm_beta*C + t_out)
Given:  y = Gemm(BatchNormalization(x), W, C)  Result: y = Gemm(x, s_in*W, gemm_beta*C + alpha*(t_in W))
        gemm_beta is 1 afterwards; alpha stays
"""

from __future__ import annotations

import onnx_ir as ir

from folding.ir import query as g
from folding.ir.types import Float64Array
from folding.rules.absorbers.linear import Linear, Vector, constant_weight
from folding.rules.absorbers.linear_rule import LinearRule
from folding.rules.base import Skip
from folding.rules.interface import Context, channel_axis_lost, label


class GemmRule(LinearRule):
    """See the module."""

    ops = ("Gemm",)

    def describe(self, node: ir.Node, ctx: Context) -> Linear | Skip:
        """Weights on the right (channels are columns) or, failing that, on the left (channels are rows)."""
        right = constant_weight(node, 1, ctx)
        if not isinstance(right, Skip):
            return self._side(node, right, weight_index=1)
        left = constant_weight(node, 0, ctx)
        return right if isinstance(left, Skip) else self._side(node, left, weight_index=0)

    def _side(self, node: ir.Node, shape: tuple[int, ...], weight_index: int) -> Linear | Skip:
        if len(shape) != 2:
            return channel_axis_lost(f"{label(node)} has weights of shape {shape}")
        trans_w = bool(g.attr_int(node, "transB" if weight_index else "transA", 0))
        trans_x = bool(g.attr_int(node, "transA" if weight_index else "transB", 0))
        # weight axis that carries output channels: B' is (K, N), A' is (M, K)
        out_in_w = (0 if trans_w else 1) if weight_index else (1 if trans_w else 0)
        # axis of x that is summed over: A is (M, K), B is (K, N)
        in_axis = (0 if trans_x else 1) if weight_index else (1 if trans_x else 0)
        alpha = g.attr_float(node, "alpha", 1.0)

        def along(vector: Vector, axis: int) -> Float64Array:
            return vector.reshape((-1, 1) if axis == 0 else (1, -1))

        return Linear(
            node, 1 - weight_index, weight_index, 1 if weight_index else 0, shape[out_in_w],
            in_axis, shape[1 - out_in_w],
            out_factor=lambda scale: along(scale, out_in_w),
            in_factor=lambda scale: along(scale, 1 - out_in_w),
            contract=lambda weights, shift: alpha * (shift @ (weights if out_in_w else weights.T)),
            bias_layout=(lambda vector: vector) if weight_index else (lambda vector: vector.reshape(-1, 1)),
            bias_gain=g.attr_float(node, "beta", 1.0),
        )  # fmt: skip


RULE = GemmRule()
