"""What Conv, ConvTranspose, Gemm and MatMul have in common: constant weights, a bias, two channel axes.

    y = W x + b;   W' = diag(s_out) W diag(s_in);   b' = s_out * (b + W t_in) + t_out

Each operator describes itself once as a `Linear`; the arithmetic and the writing are shared.
Affines that arrive accumulate in float64 vectors; weights are read and written once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.ir.types import Array, Float64Array
from folding.rules.base import Skip, SkipReason
from folding.rules.interface import Context, Side, label

Vector = Float64Array


@dataclass(eq=False)
class Linear:
    """A linear node with constant weights.

    out_axis/out_size, in_axis/in_size: channels in `output` and in the input at `x_index`.
    out_factor/in_factor: (C,) -> array that broadcasts to the weights.
    contract: (weights float64, (C_in,)) -> (C_out,): response to a constant input where no padding is.
    border: (weights float64, (C_in,)) -> (1, C_out, *space): the same where padding is, None if unknown.
    padded: constant inputs do not give constant outputs.
    shift_in_weights: the weights are the output (a table): they take the shift themselves.
    bias_gain: factor that the operator applies to its bias (gemm_beta).
    bias_layout: how a (C_out,) vector is shaped to stand in the bias input.
    out_shape, in_shape: how the vectors stand along output and input where channels are several axes.
    """

    node: ir.Node
    x_index: int
    weight_index: int
    out_axis: int
    out_size: int
    in_axis: int
    in_size: int
    out_factor: Callable[[Vector], Float64Array]
    in_factor: Callable[[Vector], Float64Array]
    contract: Callable[[Float64Array, Vector], Vector]
    bias_index: int | None = 2
    bias_layout: Callable[[Vector], Float64Array] = lambda vector: vector
    add: ir.Node | None = None
    add_index: int = 1
    padded: bool = False
    border: Callable[[Float64Array, Vector], Float64Array | None] | None = None
    border_pays: bool = False
    shift_in_weights: bool = False
    bias_gain: float = 1.0
    out_shape: tuple[int, ...] | None = None
    in_shape: tuple[int, ...] | None = None
    s_out: Vector | None = None
    t_out: Vector | None = None
    s_in: Vector | None = None
    t_in: Vector | None = None

    name: str = ""
    label: str = ""

    def __post_init__(self) -> None:
        self.name = self.node.name or self.node.outputs[0].name or self.node.op_type
        self.label = label(self.node)

    @property
    def weight(self) -> ir.Value:
        """The weights as the node reads them."""
        value = self.node.inputs[self.weight_index]
        assert value is not None
        return value

    @property
    def output(self) -> ir.Value:
        """The value that holds W x + b."""
        return (self.add or self.node).outputs[0]

    @property
    def bias(self) -> ir.Value | None:
        """The bias value, constant or not."""
        if self.add is not None:
            return self.add.inputs[self.add_index]
        return None if self.bias_index is None else g.input_at(self.node, self.bias_index)

    @property
    def changed(self) -> bool:
        """Whether anything was absorbed."""
        return any(item is not None for item in (self.s_out, self.t_out, self.s_in, self.t_in))

    def absorb(self, side: Side, scale: Vector, shift: Vector) -> None:
        """Compose a further affine: after the node's output, or before its input."""
        if side == Side.INTO_PRODUCER:
            old_s = np.ones(self.out_size) if self.s_out is None else self.s_out
            old_t = np.zeros(self.out_size) if self.t_out is None else self.t_out
            self.s_out, self.t_out = scale * old_s, scale * old_t + shift
        else:
            old_s = np.ones(self.in_size) if self.s_in is None else self.s_in
            old_t = np.zeros(self.in_size) if self.t_in is None else self.t_in
            self.s_in, self.t_in = old_s * scale, old_s * shift + old_t


def constant_weight(node: ir.Node, index: int, ctx: Context) -> tuple[int, ...] | Skip:
    """Shape of the weights, or why they cannot be rewritten."""
    value = g.input_at(node, index)
    if value is None:
        return Skip(SkipReason.RUNTIME_WEIGHTS, f"{label(node)} has no input {index}")
    if not ctx.constants.is_const(value):
        leaf = ctx.constants.overridden_leaf(value)
        if leaf is not None:
            return Skip(
                SkipReason.OVERRIDABLE_INITIALIZER,
                f"weights `{leaf.name}` of {label(node)} are also a graph input, callers may override them",
            )
        return Skip(
            SkipReason.RUNTIME_WEIGHTS, f"weights `{value.name}` of {label(node)} are computed at run time"
        )
    dtype = value.dtype or (value.const_value.dtype if value.const_value is not None else None)
    if dtype is not None and dtype not in g.FLOATS:
        return Skip(SkipReason.RUNTIME_WEIGHTS, f"weights of {label(node)} are {dtype.name.lower()}")
    shape = ctx.constants.shape(value)
    if shape is None:
        return Skip(SkipReason.UNKNOWN_SHAPE, f"weights of {label(node)} have no known shape")
    return shape


def column(array: Array, rank: int) -> Array:
    """(C,) -> (C, 1, ..., 1) with `rank` dimensions."""
    return array.reshape((-1,) + (1,) * (rank - 1))
