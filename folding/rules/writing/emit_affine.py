"""What can't move stays as few nodes as possible.

scale and shift, channels on axis 1    one BatchNormalization(x, scale, shift, 0, 1) {epsilon 0}
scale and shift otherwise              Mul, then Add
one of the two                         Mul or Add
neither                                nothing
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir

from folding.ir import shapes
from folding.ir.types import Array, Float64Array
from folding.rules.affine import Affine
from folding.rules.interface import Context

_SINCE_PLAIN_BATCH_NORM = 9  # earlier ones carry `spatial`
_SINCE_BROADCAST = 7  # earlier Mul and Add align by attributes


def representable(affine: Affine, dtype: ir.DataType | None) -> bool:
    """Whether constants of that type can hold the affine: nothing infinite, no scale lost to underflow."""
    limits = ml_dtypes.finfo((dtype or ir.DataType.FLOAT).numpy())  # type: ignore[no-untyped-call]
    scale, shift = np.abs(affine.scale), np.abs(affine.shift)
    if not affine.finite or max(scale.max(initial=0), shift.max(initial=0)) > float(limits.max):
        return False
    return bool(np.all((scale == 0.0) | (scale >= float(limits.smallest_normal))))


def one_node(ctx: Context, affine: Affine) -> bool:
    """Whether a BatchNormalization can say both halves. Measured on onnxruntime's CPU provider, it takes the
    time of the Add alone."""
    both = affine.has_scale and affine.has_shift
    return both and affine.varying() == (1,) and ctx.opset >= _SINCE_PLAIN_BATCH_NORM


def count(ctx: Context, affine: Affine) -> int:
    """Nodes that `emit` takes."""
    return 1 if one_node(ctx, affine) else int(affine.has_scale) + int(affine.has_shift)


def emit(ctx: Context, value: ir.Value, affine: Affine, name: str, at: ir.Node, *, before: bool) -> ir.Value:
    """Insert nodes for `affine(value)` next to `at`; returns the resulting value (`value` for identity)."""
    nodes: list[ir.Node] = []
    graph = at.graph
    assert isinstance(graph, ir.Graph)
    result = value
    dtype = value.dtype or ir.DataType.FLOAT
    if one_node(ctx, affine):
        nodes.append(_batch_norm(ctx, graph, value, affine, name, dtype))
        result = nodes[-1].outputs[0]
    else:
        wanted = (("Mul", affine.scale, affine.has_scale), ("Add", affine.shift, affine.has_shift))
        for op, array in ((op, array) for op, array, needed in wanted if needed):
            const = constant(ctx, graph, f"{name}/{op.lower()}", operand(ctx, array), dtype)
            nodes.append(_node(ctx, op, [result, const], name, value))
            broadcast(ctx, nodes[-1], array)
            result = nodes[-1].outputs[0]
    if before:
        graph.insert_before(at, nodes)
    else:
        graph.insert_after(at, nodes)
    return result


def _batch_norm(
    ctx: Context, graph: ir.Graph, value: ir.Value, affine: Affine, name: str, dtype: ir.DataType
) -> ir.Node:
    scale, shift = affine.scale.reshape(-1), affine.shift.reshape(-1)
    mean = np.zeros_like(scale)
    if not representable(affine, dtype) and np.all(scale != 0.0):  # s*x + t = s*(x - m), m = -t/s
        mean, shift = -shift / scale, np.zeros_like(shift)
    arrays = {"scale": scale, "shift": shift, "mean": mean, "variance": np.ones_like(scale)}
    consts = [constant(ctx, graph, f"{name}/{role}", array, dtype) for role, array in arrays.items()]
    node = _node(ctx, "BatchNormalization", [value, *consts], name, value)
    node.attributes.add(ir.AttrFloat32("epsilon", 0.0))
    return node


def _node(ctx: Context, op: str, inputs: list[ir.Value], name: str, like: ir.Value) -> ir.Node:
    node = ir.node(op, inputs, name=ctx.unique(f"{name}/{op}"))
    output = node.outputs[0]
    output.name = ctx.unique(f"{name}/{op}:0")
    output.type = like.type
    if op == "BatchNormalization" or not _enlarges(inputs[1], like):
        output.shape = like.shape
    return node


def _enlarges(const: ir.Value, value: ir.Value) -> bool:
    """Whether the constant may broadcast the value to a larger shape (a run-time bias that is a scalar)."""
    small, wide = shapes.dims(const) or [], shapes.dims(value)
    if wide is None or len(small) > len(wide):
        return True
    return any(s != 1 and w == 1 for s, w in zip(reversed(small), reversed(wide), strict=False))


def operand(ctx: Context, array: Float64Array) -> Array:
    """Leading ones dropped: a Mul or Add broadcasts without them. Before opset 7, all ones."""
    if ctx.opset < _SINCE_BROADCAST:
        return array.reshape([size for size in array.shape if size != 1])
    shape = list(array.shape)
    while shape and shape[0] == 1:
        shape.pop(0)
    return array.reshape(shape)


def broadcast(ctx: Context, node: ir.Node, array: Float64Array) -> None:
    """Before opset 7, Mul and Add broadcast by attribute: a vector is aligned at an axis."""
    if ctx.opset >= _SINCE_BROADCAST:
        return
    node.attributes.add(ir.AttrInt64("broadcast", 1))
    axes = [axis for axis, size in enumerate(array.shape) if size != 1]
    if axes:
        node.attributes.add(ir.AttrInt64("axis", axes[0]))


def constant(ctx: Context, graph: ir.Graph, name: str, array: Array, dtype: ir.DataType) -> ir.Value:
    """A new initializer of `graph` under a free name. Before IR version 4 it has to be an input as well."""
    name = ctx.unique(name)
    tensor = ir.Tensor(np.asarray(array, dtype=dtype.numpy(), order="C"), dtype=dtype, name=name)
    value = ir.val(name, dtype=dtype, shape=tensor.shape, const_value=tensor)
    if ctx.model.ir_version < 4:
        graph = ctx.model.graph  # a body's inputs are its signature
        graph.inputs.append(value)
    graph.register_initializer(value)
    return value
