"""Constants: what they are, and what they evaluate to in float64.

A value is constant when it is an initializer that nobody can override, a Constant node's output, or a
known operator applied to constants. Statistics reach the graph through such sub-expressions
(`Reciprocal(Sqrt(Add(variance, epsilon)))`); they are evaluated in float64 whatever their stored dtype, so
a fold loses no digit that the source had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from folding import graph as g
from folding.norms.base import Array

Env = Mapping[ir.Value, Array]
_MEMO_ELEMENTS = 1 << 16  # larger results are recomputed rather than held
_MAX_ELEMENTS = 1 << 28  # an Expand or Tile beyond this is left to the runtime


class Constants:
    """Answers about the constants of one model; memoized, to be thrown away when the graph changes."""

    def __init__(self, model: ir.Model, *, freeze_inputs: bool = False) -> None:
        self._ir_version = model.ir_version
        self._freeze = freeze_inputs
        self._inputs = {value for graph in g.graphs(model) for value in graph.inputs}
        self._known: dict[ir.Value, bool] = {}
        self._memo: dict[ir.Value, Array] = {}

    def overridable(self, value: ir.Value) -> bool:
        """An initializer that a caller may replace at run time: a graph input too, from IR version 4 on.

        Before IR version 4 every initializer had to be listed as an input, and runtimes treat those as
        constants (onnxruntime: `Graph::GetOverridableInitializers`).
        """
        listed = value in self._inputs
        return value.is_initializer() and listed and self._ir_version >= 4 and not self._freeze

    def is_const(self, value: ir.Value | None) -> bool:
        """Whether `evaluate` can tell the value. Linear in the size of the expression, memoized."""
        if value is None:
            return False
        stack = [value]
        while stack:
            top = stack[-1]
            if top in self._known:
                stack.pop()
                continue
            answer = self._leaf(top)
            if answer is None:
                node = top.producer()
                assert node is not None
                inputs = [item for item in node.inputs if item is not None]
                pending = [item for item in inputs if item not in self._known]
                if pending:
                    stack.extend(pending)
                    continue
                answer = all(self._known[item] for item in inputs)
            self._known[top] = answer
            stack.pop()
        return self._known[value]

    def _leaf(self, value: ir.Value) -> bool | None:
        """True/False where it can be told without looking at inputs, else None."""
        if value.is_initializer():
            return value.const_value is not None and not self.overridable(value)
        node = value.producer()
        if node is None or node.domain not in ("", "ai.onnx") or len(node.outputs) != 1:
            return False
        if node.op_type == "Constant":
            return constant_tensor(node) is not None
        if node.op_type in ("Shape", "Size"):
            shape = g.dims(node.inputs[0])
            return shape is not None and all(isinstance(dim, int) for dim in shape)
        return None if node.op_type in _OPS and node.inputs else False

    def overridden_leaf(self, value: ir.Value | None) -> ir.Value | None:
        """The overridable initializer that keeps a would-be constant expression from being one."""
        stack, seen = [value], set()
        while stack:
            top = stack.pop()
            if top is None or top in seen:
                continue
            seen.add(top)
            if self.overridable(top):
                return top
            node = top.producer()
            if node is not None and node.op_type in _OPS:
                stack.extend(node.inputs)
        return None

    def leaves(self, value: ir.Value) -> list[ir.Value]:
        """Initializers and Constant outputs that the value is computed from, in order of first use."""
        found: dict[ir.Value, None] = {}
        stack, seen = [value], set()
        while stack:
            top = stack.pop()
            if top in seen:
                continue
            seen.add(top)
            node = top.producer()
            if node is None or node.op_type == "Constant":
                found[top] = None
            elif node.op_type not in ("Shape", "Size"):
                stack.extend(item for item in reversed(node.inputs) if item is not None)
        return list(found)

    def evaluate(self, value: ir.Value, env: Env | None = None) -> Array:
        """The value: float64 for floating types, its own dtype otherwise. `env` overrides leaves."""
        memo: dict[ir.Value, Array] = dict(env) if env else self._memo
        local: dict[ir.Value, Array] = {}

        def known(item: ir.Value) -> Array | None:
            return memo.get(item) if item in memo else local.get(item)

        stack = [value]
        while stack:
            top = stack[-1]
            if known(top) is not None:
                stack.pop()
                continue
            node = top.producer()
            if node is None or node.op_type == "Constant":
                result = wide(stored(top))
            elif node.op_type in ("Shape", "Size"):
                shape = np.array(g.dims(node.inputs[0]), dtype=np.int64)
                result = _shape_slice(node, shape) if node.op_type == "Shape" else np.asarray(np.prod(shape))
            else:
                inputs = [item for item in node.inputs if item is not None]
                pending = [item for item in inputs if known(item) is None]
                if pending:
                    stack.extend(pending)
                    continue
                args = [None if item is None else known(item) for item in node.inputs]
                result = np.asarray(_OPS[node.op_type](node, *args))
            target = memo if result.size <= _MEMO_ELEMENTS else local
            target[top] = result
            stack.pop()
        found = known(value)
        assert found is not None
        return found

    def array(self, value: ir.Value) -> Array:
        """The value in its own dtype when it is merely stored or rearranged, else float64. Never memoized."""
        node = value.producer()
        if node is None or node.op_type == "Constant":
            return stored(value)
        if node.op_type in ("Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze"):
            first = node.inputs[0]
            assert first is not None
            rest = [None if item is None else self.evaluate(item) for item in node.inputs[1:]]
            return np.asarray(_OPS[node.op_type](node, self.array(first), *rest))
        return self.evaluate(value)

    def shape(self, value: ir.Value) -> tuple[int, ...] | None:
        """Shape of a constant without reading it where the graph tells it."""
        known = g.dims(value)
        if known is not None and all(isinstance(dim, int) for dim in known):
            return tuple(int(dim) for dim in known)  # type: ignore[arg-type]
        return tuple(self.array(value).shape) if self.is_const(value) else None


def constant_tensor(node: ir.Node) -> ir.TensorProtocol | None:
    """The tensor of a Constant node, whatever the attribute it is spelled with; None for strings."""
    attr = node.attributes.get("value")
    if attr is not None:
        return None if attr.is_ref() else attr.as_tensor()
    for name, dtype in (("value_float", np.float32), ("value_floats", np.float32),
                        ("value_int", np.int64), ("value_ints", np.int64)):  # fmt: skip
        attr = node.attributes.get(name)
        if attr is not None and not attr.is_ref():
            return ir.tensor(np.array(attr.value, dtype=dtype))
    return None


def stored(value: ir.Value) -> Array:
    """The array behind an initializer or a Constant node, in its own dtype, without a copy where possible."""
    tensor = value.const_value
    node = value.producer()
    if tensor is None and node is not None:
        tensor = constant_tensor(node)
    assert tensor is not None
    return np.asarray(tensor.numpy())


def wide(array: Array) -> Array:
    """Floating arrays as float64; others as they are."""
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        return array.astype(np.float64)
    return array


def axes_of(node: ir.Node, axes: Array | None) -> list[int] | None:
    """Axes given as an input (opset 13 and later) or as an attribute (before)."""
    if axes is not None:
        return [int(axis) for axis in np.atleast_1d(axes)]
    return g.attr_ints(node, "axes")


def _shape_slice(node: ir.Node, shape: Array) -> Array:
    start = g.attr_int(node, "start", 0)
    end = g.attr_int(node, "end", len(shape))
    return shape[start:end]


def _reshape(node: ir.Node, data: Array, shape: Array | None = None) -> Array:
    target = [int(dim) for dim in (shape if shape is not None else g.attr_ints(node, "shape") or [])]
    if not g.attr_int(node, "allowzero", 0):
        target = [data.shape[i] if dim == 0 else dim for i, dim in enumerate(target)]
    return data.reshape(target)


def _squeeze(node: ir.Node, data: Array, axes: Array | None = None) -> Array:
    given = axes_of(node, axes)
    return np.squeeze(data, None if given is None else tuple(given))


def _unsqueeze(node: ir.Node, data: Array, axes: Array | None = None) -> Array:
    return np.expand_dims(data, tuple(axes_of(node, axes) or ()))


def _cast(node: ir.Node, data: Array) -> Array:
    dtype = ir.DataType(g.attr_int(node, "to", 1))
    if dtype in g.FLOATS:
        return data.astype(np.float64)
    return data.astype(dtype.numpy())


def _cast_like(node: ir.Node, data: Array, like: Array) -> Array:
    return data.astype(like.dtype)


def _expand(node: ir.Node, data: Array, shape: Array) -> Array:
    out = np.broadcast_shapes(data.shape, tuple(int(dim) for dim in shape))
    if np.prod(out, dtype=np.float64) > _MAX_ELEMENTS:
        raise ValueError(f"Expand to {out} is too large for a constant")
    return np.broadcast_to(data, out)


def _constant_of_shape(node: ir.Node, shape: Array) -> Array:
    attr = node.attributes.get("value")
    fill: Array = np.zeros(1) if attr is None else wide(attr.as_tensor().numpy())
    return np.broadcast_to(fill.reshape(()), tuple(int(dim) for dim in shape))


def _slice(node: ir.Node, data: Array, *args: Array | None) -> Array:
    given = list(args) + [None] * (4 - len(args))
    starts = given[0] if given[0] is not None else np.array(g.attr_ints(node, "starts"))
    ends = given[1] if given[1] is not None else np.array(g.attr_ints(node, "ends"))
    axes = given[2] if given[2] is not None else np.array(g.attr_ints(node, "axes") or range(len(starts)))
    steps = given[3] if given[3] is not None else np.ones(len(starts), dtype=np.int64)
    index: list[slice] = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[int(axis)] = _python_slice(int(start), int(end), int(step))
    return data[tuple(index)]


def _python_slice(start: int, end: int, step: int) -> slice:
    """ONNX says "to the very beginning" with a hugely negative end; Python says it with None."""
    if step < 0 and end < -(1 << 30):
        return slice(start, None, step)
    return slice(start, end, step)


def _gather(node: ir.Node, data: Array, indices: Array) -> Array:
    return np.take(data, indices.astype(np.int64), axis=g.attr_int(node, "axis", 0))


def _concat(node: ir.Node, *args: Array) -> Array:
    return np.concatenate(args, axis=g.attr_int(node, "axis", 0))


def _transpose(node: ir.Node, data: Array) -> Array:
    return np.transpose(data, g.attr_ints(node, "perm"))


def _binary(function: Callable[[Any, Any], Any]) -> Callable[..., Array]:
    def apply(node: ir.Node, left: Array, right: Array) -> Array:
        axis = g.attr_int(node, "axis")  # before opset 7: broadcast=1 aligns `right` at `axis`
        if axis is not None and right.ndim:
            right = right.reshape(right.shape + (1,) * (left.ndim - axis - right.ndim))
        with np.errstate(all="ignore"):  # what comes out non-finite is reported as such
            return np.asarray(function(left, right))

    return apply


def _unary(function: Callable[[Any], Any]) -> Callable[..., Array]:
    def apply(node: ir.Node, data: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(function(data))

    return apply


def _divide(left: Array, right: Array) -> Array:
    if left.dtype.kind in "iu" and right.dtype.kind in "iu":
        return np.asarray(np.trunc(left / right).astype(left.dtype))
    return np.asarray(left / right)


def _quantize(node: ir.Node, data: Array, scale: Array, zero: Array | None = None) -> Array:
    """As runtimes do it: float32 division, round half to even, saturate."""
    like = np.zeros((), np.uint8) if zero is None else zero
    steps = data.astype(np.float32) / along_axis(node, scale, data.shape).astype(np.float32)
    try:
        limits = ml_dtypes.iinfo(like.dtype)  # type: ignore[no-untyped-call]
    except ValueError:  # an 8-bit float has no zero point, and its cast rounds and saturates by itself
        return steps.astype(like.dtype)
    whole = np.rint(steps).astype(np.int64) + along_axis(node, like, data.shape).astype(np.int64)
    return np.clip(whole, int(limits.min), int(limits.max)).astype(like.dtype)


def _dequantize(node: ir.Node, data: Array, scale: Array, zero: Array | None = None) -> Array:
    shifted = data.astype(np.float64)
    if zero is not None:
        shifted = shifted - along_axis(node, zero, data.shape).astype(np.float64)
    return shifted * along_axis(node, scale, data.shape)


def along_axis(node: ir.Node, array: Array, data: tuple[int, ...]) -> Array:
    """A parameter of QuantizeLinear or DequantizeLinear, shaped to broadcast to its data of that shape."""
    axis, block = g.attr_int(node, "axis", 1), g.attr_int(node, "block_size", 0)
    if block:
        return np.repeat(array, block, axis).take(np.arange(data[axis]), axis)
    if array.size == 1:
        return array.reshape((1,) * len(data))
    if array.ndim != 1:
        return array
    shape = [1] * len(data)
    shape[axis % len(data)] = -1
    return array.reshape(shape)


_OPS: dict[str, Callable[..., Array]] = {
    "Add": _binary(np.add), "Sub": _binary(np.subtract), "Mul": _binary(np.multiply),
    "Div": _binary(_divide), "Pow": _binary(np.power), "Max": _binary(np.maximum),
    "Min": _binary(np.minimum),
    "Neg": _unary(np.negative), "Sqrt": _unary(np.sqrt), "Abs": _unary(np.abs), "Exp": _unary(np.exp),
    "Reciprocal": _unary(lambda x: 1.0 / x), "Identity": _unary(lambda x: x),
    "Reshape": _reshape, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Transpose": _transpose,
    "Cast": _cast, "CastLike": _cast_like, "Expand": _expand, "ConstantOfShape": _constant_of_shape,
    "QuantizeLinear": _quantize, "DequantizeLinear": _dequantize,
    "Slice": _slice, "Gather": _gather, "Concat": _concat,
}  # fmt: skip
