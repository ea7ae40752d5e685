"""Conv: 1-D, 2-D, 3-D, grouped, depthwise, dilated, any padding.

    W (C_out, C_in/group, *kernel); x (N, C_in, *space); y (N, C_out, *space'); s_out (C_out,), s_in (C_in,)

Given:  y = BatchNormalization(Conv(x, W, b))       Result: y = Conv(x, s_out*W, s_out*b + t_out)
Given:  y = Conv(BatchNormalization(x), W, b)       Result: y = Conv(x, W*s_in, b + sum(W*t_in))   unpadded
        padded: the same scale, and the shift as a constant map (1, C_out, *space') that is added after
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding.ir.types import Float64Array
from folding.rules.absorbers.convolution import convolution, grouped_weight
from folding.rules.absorbers.linear import Linear, Vector, column
from folding.rules.absorbers.linear_rule import LinearRule
from folding.rules.base import Skip
from folding.rules.interface import Context


class ConvRule(LinearRule):
    """See the module."""

    ops = ("Conv",)

    def describe(self, node: ir.Node, ctx: Context) -> Linear | Skip:
        """Channels are axis 1 on both sides."""
        found = grouped_weight(node, ctx)
        if isinstance(found, Skip):
            return found
        (outs, ins, *kernel), group = found

        def out_factor(scale: Vector) -> Float64Array:
            return column(scale, 2 + len(kernel))

        def in_factor(scale: Vector) -> Float64Array:
            rows = np.repeat(scale.reshape(group, ins), outs // group, axis=0)
            return rows.reshape((outs, ins) + (1,) * len(kernel))

        def taps(weights: Float64Array, shift: Vector) -> Float64Array:
            return np.asarray((weights * in_factor(shift)).sum(axis=1))

        return convolution(
            node,
            ctx,
            tuple(kernel),
            (outs, ins * group),
            out_factor=out_factor,
            in_factor=in_factor,
            taps=taps,
        )


RULE = ConvRule()
