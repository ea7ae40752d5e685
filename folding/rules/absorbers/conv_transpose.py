"""ConvTranspose with any number of groups.

    W (C_in, C_out/group, *kernel); x (N, C_in, *space); y (N, C_out, *space')

Given:  y = BatchNormalization(ConvTranspose(x, W, b))  Result: y = ConvTranspose(x, W*s_out, s_out*b + t_out)
Given:  y = ConvTranspose(BatchNormalization(x), W, b)  Result: y = ConvTranspose(x, s_in*W, b) + map(t_in)
        (taps overlap unevenly at the border and between strides, so the shift is a plain bias only where
        there is one tap: kernel 1, stride 1, nothing padded)
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.ir.types import Float64Array
from folding.rules.absorbers.conv import border_pays
from folding.rules.absorbers.linear import Linear, Vector, column, constant_weight
from folding.rules.absorbers.linear_rule import LinearRule
from folding.rules.absorbers.window import window_of
from folding.rules.base import Skip
from folding.rules.interface import Context, channel_axis_lost, label


class ConvTransposeRule(LinearRule):
    """See the module."""

    ops = ("ConvTranspose",)

    def describe(self, node: ir.Node, ctx: Context) -> Linear | Skip:
        """Channels are axis 1 on both sides; the weights carry them the other way round."""
        shape = constant_weight(node, 1, ctx)
        if isinstance(shape, Skip):
            return shape
        group = g.attr_int(node, "group", 1)
        if len(shape) < 3 or not group or shape[0] % group:
            return channel_axis_lost(f"{label(node)} has weights of shape {shape} for {group} groups")
        ins, outs = shape[0], shape[1]
        ones = (1,) * (len(shape) - 2)
        window = window_of(node, shape[2:], ctx, transposed=True)

        def out_factor(scale: Vector) -> Float64Array:
            rows = np.repeat(scale.reshape(group, outs), ins // group, axis=0)
            return rows.reshape((ins, outs, *ones))

        def taps(weights: Float64Array, shift: Vector) -> Float64Array:
            fed = weights * column(shift, len(shape))
            summed = fed.reshape((group, ins // group, outs, *shape[2:])).sum(axis=1)
            return np.asarray(summed.reshape((-1, *shape[2:])))

        return Linear(
            node, 0, 1, 1, outs * group, 1, ins,
            out_factor=out_factor,
            in_factor=lambda scale: column(scale, len(shape)),
            contract=lambda weights, shift: taps(weights, shift).reshape(outs * group, -1).sum(axis=1),
            padded=window.padded,
            border=lambda weights, shift: window.spread(taps(weights, shift)),
            border_pays=border_pays(window, outs * group, node, ctx),
        )  # fmt: skip


RULE = ConvTransposeRule()
