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

from folding.ir.types import Float64Array
from folding.rules.absorbers.convolution import convolution, grouped_weight
from folding.rules.absorbers.linear import Linear, Vector, column
from folding.rules.absorbers.linear_rule import LinearRule
from folding.rules.base import Skip
from folding.rules.interface import Context


class ConvTransposeRule(LinearRule):
    """See the module."""

    ops = ("ConvTranspose",)

    def describe(self, node: ir.Node, ctx: Context) -> Linear | Skip:
        """Channels are axis 1 on both sides; the weights carry them the other way round."""
        found = grouped_weight(node, ctx)
        if isinstance(found, Skip):
            return found
        (ins, outs, *kernel), group = found

        def out_factor(scale: Vector) -> Float64Array:
            rows = np.repeat(scale.reshape(group, outs), ins // group, axis=0)
            return rows.reshape((ins, outs) + (1,) * len(kernel))

        def in_factor(scale: Vector) -> Float64Array:
            return column(scale, 2 + len(kernel))

        def taps(weights: Float64Array, shift: Vector) -> Float64Array:
            fed = (weights * in_factor(shift)).reshape((group, ins // group, outs, *kernel))
            return np.asarray(fed.sum(axis=1).reshape((-1, *kernel)))

        return convolution(
            node,
            ctx,
            tuple(kernel),
            (outs * group, ins),
            out_factor=out_factor,
            in_factor=in_factor,
            taps=taps,
        )


RULE = ConvTransposeRule()
