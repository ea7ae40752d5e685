"""Small changes of a graph that measuring and rewriting have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from folding.norms.base import BatchNorm


def axis_of(norm: BatchNorm) -> int:
    """The channel axis, counted from the front, of a norm whose input's rank is known."""
    assert norm.input is not None
    assert norm.input.shape is not None
    axis = named_axis(norm)
    assert axis is not None
    return axis % len(norm.input.shape)


def named_axis(norm: BatchNorm) -> int | None:
    """The channel axis, from the source where one channel leaves the graph none to tell."""
    if norm.channel_axis is None and norm.hint is not None:
        return norm.hint.channel_axis
    return norm.channel_axis


def add_op(graph: ir.Graph, op: str, inputs: list[ir.Value], name: str, **attributes: Any) -> ir.Value:
    """One more node of the default domain; its output has its name and the type of its first input."""
    node = ir.node(op, inputs, attributes=attributes or None, name=name)
    node.outputs[0].name = name
    node.outputs[0].type = inputs[0].type
    graph.append(node)
    return node.outputs[0]


def reduce_mean(model: ir.Model, x: ir.Value, axes: list[int], name: str) -> ir.Value:
    """ReduceMean over `axes`, kept: an attribute before opset 18, an input from there on."""
    if model.graph.opset_imports.get("", 18) >= 18:
        listed = constant(model.graph, np.asarray(axes, np.int64), f"{name}/axes")
        return add_op(model.graph, "ReduceMean", [x, listed], name, keepdims=1)
    return add_op(model.graph, "ReduceMean", [x], name, axes=axes, keepdims=1)


def constant(graph: ir.Graph, array: np.ndarray, name: str) -> ir.Value:
    """One more initializer."""
    value = ir.Value(name=name, const_value=ir.Tensor(array, name=name))
    value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
    value.shape = ir.Shape(array.shape)
    graph.register_initializer(value)
    return value


def float_type(value: ir.Value) -> np.dtype[Any]:
    """The dtype of a value; float32 where it is not declared."""
    return value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)


def take_over(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    """`new` stands wherever `old` stood, graph outputs (under their name) included."""
    for position, output in enumerate(graph.outputs):
        if output is old:
            new.shape, new.type = old.shape, old.type
            name, old.name = old.name, f"{old.name}/before"
            new.name = name
            graph.outputs[position] = new
    old.replace_all_uses_with(new)
