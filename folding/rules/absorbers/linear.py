"""What Conv, ConvTranspose, Gemm and MatMul have in common: constant weights, a bias, two channel axes.

    y = W x + b;   W' = diag(s_out) W diag(s_in);   b' = s_out * (b + W t_in) + t_out

Each operator describes itself once as a `Linear`; the arithmetic and the writing are shared.
Affines that arrive accumulate in float64 vectors; weights are read and written once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.norms.base import Array, Float64Array
from folding.rules.affine import Affine
from folding.rules.base import Skip, SkipReason
from folding.rules.interface import Absorbed, Context, Move, Side, channel_axis_lost, label

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


class LinearRule:
    """Both directions for an operator that `describe` knows."""

    ops: tuple[str, ...] = ()

    def describe(self, node: ir.Node, ctx: Context) -> Linear | Skip:
        """The node as a Linear, or why it cannot absorb."""
        raise NotImplementedError

    def linear(self, node: ir.Node, ctx: Context) -> Linear | Skip:
        """`describe`, once per node: what it has absorbed lives on the record."""
        known = ctx.memo.get(node)
        if known is None:
            known = self.describe(node, ctx)
            if isinstance(known, Skip):
                known = replace(known, always=True)
            ctx.memo[node] = known
        assert isinstance(known, Linear | Skip)
        return known

    def into_producer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Scale rows of W and the bias; shift the bias."""
        found = self.linear(node, ctx)
        if isinstance(found, Skip):
            return found
        if found.out_axis >= affine.rank:
            return channel_axis_lost(f"{label(node)} has no channel axis in its output")
        vectors = affine.vector(found.out_axis, found.out_size)
        if vectors is None:
            sizes = [affine.scale.shape[axis] for axis in affine.varying()]
            return channel_axis_lost(
                f"{label(node)} has its {found.out_size} channels on axis {found.out_axis}, "
                f"the affine varies along {list(affine.varying())} with sizes {sizes}"
            )
        from folding.rules.absorbers import quantized  # it describes its operand as a Linear

        return quantized.refusal(found, Side.INTO_PRODUCER, *vectors, ctx) or Absorbed(
            found, Side.INTO_PRODUCER, *vectors, affine
        )

    def into_consumer(self, node: ir.Node, index: int, affine: Affine, ctx: Context) -> Move:
        """Scale columns of W; send the shift through W into the bias, or into a border map."""
        found = self.linear(node, ctx)
        if isinstance(found, Skip):
            return found
        if index != found.x_index:
            return Skip(SkipReason.RUNTIME_WEIGHTS, f"{label(node)} reads it as input {index}, not as x")
        vectors = affine.vector(found.in_axis, found.in_size)
        if vectors is None:
            return channel_axis_lost(
                f"{label(node)} sums over {found.in_size} channels on axis {found.in_axis}, "
                f"the affine varies along {list(affine.varying())}"
            )
        if affine.has_shift and found.padded and not found.border_pays:
            return Skip(
                SkipReason.PADDED_SHIFT,
                f"{label(node)} pads with zeros, so a shifted input does not shift its border alike",
            )
        from folding.rules.absorbers import quantized  # it describes its operand as a Linear

        return quantized.refusal(found, Side.INTO_CONSUMER, *vectors, ctx) or Absorbed(
            found, Side.INTO_CONSUMER, *vectors, affine
        )


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
