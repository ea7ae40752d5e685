"""The bias of a folded node: one vector, or a map where padding makes the shift depend on the place.

    b' = s_out * (gain*b + W t_in) + t_out

A constant bias is rewritten, an absent one added; a bias that is only known at run time gets its Mul and Add,
on the vector and never on the activations.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from folding.ir import edit, shapes
from folding.ir.types import Array, Float64Array
from folding.rules import certificate as cert
from folding.rules.absorbers.linear import Linear
from folding.rules.affine import Affine
from folding.rules.base import Skip, SkipReason
from folding.rules.interface import Context
from folding.rules.writing import emit_affine
from folding.rules.writing.rounding import remember, rounded


@dataclass(eq=False)
class Bias:
    """The folded bias, computed before anything is changed, and placed afterwards.

    value: constant bias to write; None when the bias stays as it is.
    runtime: (scale, shift) to apply to a bias that is only known at run time.
    border: constant map to add after the node.
    """

    linear: Linear
    ctx: Context
    rounding: cert.Rounding
    value: Array | None = None
    runtime: tuple[Array, Array] | None = None
    border: Array | None = None
    exact: dict[str, Float64Array] = field(default_factory=dict)  # `value`, `border` before they were rounded
    added: bool = False  # an Add of its own was placed: an affine that others may merge with

    @staticmethod
    def of(linear: Linear, weights: Array, ctx: Context) -> Bias | Skip:
        dtype = dtype_of(linear, weights)
        result = Bias(linear, ctx, cert.Rounding(dtype.name))
        if linear.shift_in_weights:
            return result
        s_out = np.ones(linear.out_size) if linear.s_out is None else linear.s_out
        shift = np.zeros(linear.out_size) if linear.t_out is None else linear.t_out
        terms: list[Float64Array] = []
        if linear.t_in is not None and np.any(linear.t_in):
            reply = result._response(weights, linear.t_in, s_out)
            if isinstance(reply, Skip):
                return reply
            if reply is not None:
                terms.append(reply)
        if np.any(shift):
            terms.append(shift)
        refusal = result._combine(s_out, terms, dtype)
        return refusal or result

    def _response(
        self, weights: Array, shift: Float64Array, s_out: Float64Array
    ) -> Float64Array | Skip | None:
        """What the input's shift adds: a vector (C_out,), or None after it became a border map."""
        exact = weights.astype(np.float64)
        if not self.linear.padded:
            return s_out * self.linear.contract(exact, shift)
        assert self.linear.border is not None
        table = self.linear.border(exact, shift)
        assert table is not None
        lines = [1] * table.ndim  # a map has the rank of the output
        lines[self.linear.out_axis] = -1
        self.exact["border"] = table = table * s_out.reshape(lines)
        self.border, rounding = rounded(table, dtype_of(self.linear, weights))
        return refuse(rounding, f"border of {self.linear.label}")

    def _combine(
        self, s_out: Float64Array, terms: list[Float64Array], dtype: np.dtype[np.generic]
    ) -> Skip | None:
        linear, bias = self.linear, self.linear.bias
        scaled_at_all = bool(np.any(s_out != 1.0))
        if not terms and not (scaled_at_all and bias is not None) and linear.bias_gain == 1.0:
            return None
        if bias is not None and linear.bias_gain != 0.0 and not self.ctx.constants.is_const(bias):
            total = sum(terms, np.zeros(linear.out_size))
            shift, rounding = rounded(linear.bias_layout(total), dtype)
            gain, more = rounded(linear.bias_layout(s_out * linear.bias_gain), dtype)
            rounding.add(more)
            self.rounding.add(rounding)
            self.runtime = gain, shift
            return refuse(rounding, f"bias of {linear.label}")
        parts = [linear.bias_layout(term) for term in terms]
        if bias is not None and linear.bias_gain != 0.0:
            old = self.ctx.constants.evaluate(bias) * linear.bias_gain
            parts.insert(0, linear.bias_layout(s_out) * old)
        if not parts:
            return None
        self.exact["value"] = exact = sum(parts[1:], parts[0])
        self.value, rounding = rounded(exact, dtype)
        rounding.cancellation = cert.cancelled(exact, parts)
        self.rounding.add(rounding)
        return refuse(rounding, f"bias of {linear.label}")

    def place(self) -> None:
        """Put the folded bias where the node reads it."""
        linear, node = self.linear, self.linear.node
        if self.runtime is not None:
            self._place_runtime(*self.runtime)
        elif self.value is not None:
            self._place_constant(self.value)
        if self.border is not None:
            self._add_after(self.border, "border")
        if node.op_type == "Gemm" and self.ctx.opset < 7:
            node.attributes.add(ir.AttrInt64("broadcast", 1))
        if linear.bias_gain != 1.0 and (self.value is not None or self.runtime is not None):
            node.attributes.pop("beta", None)

    def _place_constant(self, array: Array) -> None:
        linear, node, old = self.linear, self.linear.node, self.linear.bias
        if old is None and linear.bias_index is None:
            if not self._as_gemm(array):
                self._add_after(array, "value")
            return
        owner = linear.add or node
        index = linear.add_index if linear.add is not None else linear.bias_index
        assert index is not None
        if old is not None and self.ctx.constants.is_const(old):
            value = store(self.ctx, old, array, node, exclusive=len(old.uses()) == 1)
        else:
            value = _new_constant(self.ctx, node, f"{linear.name}/bias", array)
        self._remember(value, "value")
        if index >= len(owner.inputs):
            owner.resize_inputs(index + 1)
        owner.replace_input_with(index, value)
        if old is not None and old is not value:
            forget(old)

    def _as_gemm(self, array: Array) -> bool:
        """MatMul of rank 2 with a new bias: a Gemm says it in one node."""
        node = self.linear.node
        x = node.inputs[0]
        weight = shapes.dims(self.linear.weight)
        if (
            x is None
            or node.op_type != "MatMul"
            or self.linear.weight_index != 1
            or self.ctx.rank(x) != 2
            or weight is None
            or len(weight) != 2
        ):
            return False
        if self.ctx.opset < 7 or array.ndim != 1:
            return False
        node.op_type = "Gemm"
        node.resize_inputs(3)
        value = _new_constant(self.ctx, node, f"{self.linear.name}/bias", array)
        self._remember(value, "value")
        node.replace_input_with(2, value)
        return True

    def _add_after(self, array: Array, what: str) -> None:
        """An Add behind the node. That of a MatMul is its bias from then on; any other is an affine."""
        linear = self.linear
        name = f"{linear.name}/{'bias' if what == 'value' else what}"
        self._remember(_add_after(self.ctx, linear, array, name), what)
        self.added |= what == "border" or linear.node.op_type != "MatMul"

    def _remember(self, value: ir.Value, what: str) -> None:
        exact = self.exact[what]
        remember(value, lambda: exact)

    def _place_runtime(self, gain: Array, shift: Array) -> None:
        linear, node, bias = self.linear, self.linear.node, self.linear.bias
        assert bias is not None
        affine = Affine.of(gain.astype(np.float64), shift.astype(np.float64))
        if self.ctx.dims(bias) == [*(self.ctx.dims(bias) or [])[:1], gain.size] and affine.rank == 1:
            affine = affine.map(lambda array: array.reshape(1, -1))  # a matrix: one node says it
        value = emit_affine.emit(self.ctx, bias, affine, f"{linear.name}/bias", node, before=True)
        assert linear.bias_index is not None
        node.replace_input_with(linear.bias_index, value)


def _new_constant(ctx: Context, node: ir.Node, name: str, array: Array) -> ir.Value:
    assert isinstance(node.graph, ir.Graph)
    return emit_affine.constant(ctx, node.graph, name, array, ir.DataType.from_numpy(array.dtype))


def _add_after(ctx: Context, linear: Linear, array: Array, name: str) -> ir.Value:
    """Write `output + array` in the place of `output`, under its name; return the constant."""
    output = linear.output
    node = output.producer()
    assert node is not None
    assert isinstance(node.graph, ir.Graph)
    users = list(output.uses())
    constant = _new_constant(ctx, node, name, array)
    inner = ir.node("Add", [output, constant], name=ctx.unique(f"{name}/Add"))
    result = inner.outputs[0]
    lead = (1,) * ((ctx.rank(output) or array.ndim) - array.ndim)
    emit_affine.broadcast(ctx, inner, array.reshape(lead + array.shape))
    node.graph.insert_after(node, inner)
    result.type, result.shape = output.type, output.shape
    was_output = output.is_graph_output()
    name_before = output.name
    output.name = ctx.unique(f"{name_before}/unbiased")
    result.name = name_before
    for user, index in users:
        user.replace_input_with(index, result)
    if was_output:
        for i, item in enumerate(node.graph.outputs):
            if item is output:
                node.graph.outputs[i] = result
    return constant


def refuse(rounding: cert.Rounding, what: str) -> Skip | None:
    """Folded numbers that left the range of their dtype are not written."""
    if rounding.overflow:
        return Skip(
            SkipReason.WOULD_OVERFLOW, f"{rounding.overflow} {what} would not be finite in {rounding.dtype}"
        )
    if rounding.lost > cert.unit_roundoff(rounding.dtype):
        return Skip(
            SkipReason.WOULD_UNDERFLOW,
            f"{rounding.underflow} {what} would underflow {rounding.dtype}, "
            f"up to {rounding.lost:.1e} of a channel's weight",
        )
    return None


def dtype_of(linear: Linear, weights: Array) -> np.dtype[np.generic]:
    dtype = linear.weight.dtype
    return np.dtype(dtype.numpy()) if dtype is not None else weights.dtype


def forget(value: ir.Value) -> None:
    producer = value.producer()
    if producer is not None:
        edit.prune([producer])
    else:
        edit.drop_initializer(value)


def store(ctx: Context, old: ir.Value, array: Array, node: ir.Node, *, exclusive: bool) -> ir.Value:
    """The folded array as a value: in the place of `old` when nobody else reads that, else a new one."""
    dtype = ir.DataType.from_numpy(array.dtype)
    if exclusive and old.is_initializer() and not old.is_graph_output():
        tensor = ir.Tensor(array, dtype=dtype, name=old.name)
        old.const_value = tensor
        old.shape, old.dtype = ir.Shape(array.shape), dtype
        return old
    assert isinstance(node.graph, ir.Graph)
    leaf = next(iter(ctx.constants.leaves(old)), old)
    base = f"{leaf.name or node.name or node.op_type}_folded"
    return emit_affine.constant(ctx, node.graph, base, array, dtype)
