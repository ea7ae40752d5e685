"""Conv: 1-D, 2-D, 3-D, grouped, depthwise, dilated, any padding.

    W (C_out, C_in/group, *kernel); x (N, C_in, *space); y (N, C_out, *space'); s_out (C_out,), s_in (C_in,)

Given:  y = BatchNormalization(Conv(x, W, b))       Result: y = Conv(x, s_out*W, s_out*b + t_out)
Given:  y = Conv(BatchNormalization(x), W, b)       Result: y = Conv(x, W*s_in, b + sum(W*t_in))   unpadded
        padded: the same scale, and the shift as a constant map (1, C_out, *space') that is added after
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.ir import shapes
from folding.ir.types import Float64Array
from folding.rules.absorbers.linear import Linear, Vector, column, constant_weight
from folding.rules.absorbers.linear_rule import LinearRule
from folding.rules.absorbers.window import Window, window_of
from folding.rules.base import Skip
from folding.rules.interface import Context, channel_axis_lost, label


class ConvRule(LinearRule):
    """See the module."""

    ops = ("Conv",)

    def describe(self, node: ir.Node, ctx: Context) -> Linear | Skip:
        """Channels are axis 1 on both sides."""
        shape = constant_weight(node, 1, ctx)
        if isinstance(shape, Skip):
            return shape
        group = g.attr_int(node, "group", 1)
        if len(shape) < 3 or not group or shape[0] % group:
            return channel_axis_lost(f"{label(node)} has weights of shape {shape} for {group} groups")
        outs, ins = shape[0], shape[1]
        window = window_of(node, shape[2:], ctx, transposed=False)

        def in_factor(scale: Vector) -> Float64Array:
            rows = np.repeat(scale.reshape(group, ins), outs // group, axis=0)
            return rows.reshape((outs, ins) + (1,) * (len(shape) - 2))

        def taps(weights: Float64Array, shift: Vector) -> Float64Array:
            return np.asarray((weights * in_factor(shift)).sum(axis=1))

        return Linear(
            node, 0, 1, 1, outs, 1, ins * group,
            out_factor=lambda scale: column(scale, len(shape)),
            in_factor=in_factor,
            contract=lambda weights, shift: taps(weights, shift).reshape(outs, -1).sum(axis=1),
            padded=window.padded,
            border=lambda weights, shift: window.spread(taps(weights, shift)),
            border_pays=border_pays(window, outs, node, ctx),
        )  # fmt: skip


def border_pays(window: Window, outs: int, node: ir.Node, ctx: Context) -> bool:
    """A border map is worth its bytes when it is smaller than the activation that an Add would touch."""
    space = window.output_space
    shape = shapes.dims(node.inputs[0])
    if space is None or shape is None or ctx.opset < 7:
        return False
    activation = [dim for dim in shape[1:] if isinstance(dim, int)]
    return outs * prod(space) < prod(activation)


RULE = ConvRule()
