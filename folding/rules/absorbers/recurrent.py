"""LSTM, GRU, RNN: the input weights absorb what comes before.

    X (seq, batch, I) or (batch, seq, I); W (dirs, G*H, I); B (dirs, 2*G*H) = [Wb, Rb]

Given:  LSTM(s*x + t, W, R, B)      Result: LSTM(x, W*s, R, B'), Wb' = Wb + W t
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding.rules.absorbers.linear import Linear, Vector, constant_weight
from folding.rules.absorbers.linear_rule import LinearRule
from folding.rules.affine import Affine
from folding.rules.base import Skip, SkipReason
from folding.rules.interface import Context, Move, channel_axis_lost, label


class RecurrentRule(LinearRule):
    """See the module."""

    ops = ("LSTM", "GRU", "RNN")

    def describe(self, node: ir.Node, ctx: Context) -> Linear | Skip:
        """Input channels are the last axis of X."""
        shape = constant_weight(node, 1, ctx)
        if isinstance(shape, Skip):
            return shape
        if len(shape) != 3:
            return channel_axis_lost(f"{label(node)} has input weights of shape {shape}")
        directions, rows, size = shape

        def contract(weights: np.ndarray, shift: Vector) -> Vector:
            reply = weights @ shift  # (dirs, rows)
            return np.concatenate([reply, np.zeros_like(reply)], axis=1).reshape(-1)

        return Linear(
            node, 0, 1, 0, directions * 2 * rows, 2, size,
            out_factor=lambda scale: np.ones((1, 1, 1)),
            in_factor=lambda scale: scale.reshape(1, 1, -1),
            contract=contract,
            bias_index=3,
            bias_layout=lambda vector: vector.reshape(directions, 2 * rows),
        )  # fmt: skip

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Gates are not linear."""
        return Skip(SkipReason.NONLINEARITY_BETWEEN, f"produced by {label(node)}, whose gates are not linear")


RULE = RecurrentRule()
