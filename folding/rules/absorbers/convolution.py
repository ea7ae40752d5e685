"""What Conv and ConvTranspose have in common: grouped weights, channels on axis 1, a window with a border."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import onnx_ir as ir

from folding.ir import query as g
from folding.ir import shapes
from folding.ir.types import Float64Array
from folding.rules.absorbers.linear import Linear, Vector, constant_weight
from folding.rules.absorbers.window import Window, window_of
from folding.rules.base import Skip
from folding.rules.interface import Context, channel_axis_lost, label


def grouped_weight(node: ir.Node, ctx: Context) -> tuple[tuple[int, ...], int] | Skip:
    """Return the shape of W (two channel axes, then the kernel's) and the number of groups."""
    shape = constant_weight(node, 1, ctx)
    if isinstance(shape, Skip):
        return shape
    group = g.attr_int(node, "group", 1)
    if len(shape) < 3 or not group or shape[0] % group:
        return channel_axis_lost(f"{label(node)} has weights of shape {shape} for {group} groups")
    return shape, group


def convolution(
    node: ir.Node,
    ctx: Context,
    kernel: tuple[int, ...],
    channels: tuple[int, int],
    *,
    out_factor: Callable[[Vector], Float64Array],
    in_factor: Callable[[Vector], Float64Array],
    taps: Callable[[Float64Array, Vector], Float64Array],
) -> Linear:
    """Return the node as a Linear.

    Args:
        kernel: the sizes of the window.
        channels: (C_out, C_in) over all groups.
        out_factor, in_factor: (C,) -> array that broadcasts to W.
        taps: (W float64, (C_in,)) -> (C_out, *kernel): what each tap makes of a constant input.
    """
    outs, ins = channels
    window = window_of(node, kernel, ctx, transposed=node.op_type == "ConvTranspose")
    return Linear(
        node, 0, 1, 1, outs, 1, ins,
        out_factor=out_factor,
        in_factor=in_factor,
        contract=lambda weights, shift: taps(weights, shift).reshape(outs, -1).sum(axis=1),
        padded=window.padded,
        border=lambda weights, shift: window.spread(taps(weights, shift)),
        border_pays=_border_pays(window, outs, node, ctx),
    )  # fmt: skip


def _border_pays(window: Window, outs: int, node: ir.Node, ctx: Context) -> bool:
    """A border map is worth its bytes when it is smaller than the activation that an Add would touch."""
    space = window.output_space
    shape = shapes.dims(node.inputs[0])
    if space is None or shape is None or ctx.opset < 7:
        return False
    activation = [dim for dim in shape[1:] if isinstance(dim, int)]
    return outs * prod(space) < prod(activation)
