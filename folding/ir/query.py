"""Questions about an onnx_ir graph, and the few edits that every rewrite needs.

Nothing here knows what a batch norm is. All answers are conservative: `None` means "cannot be told".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx_ir as ir

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether `node` is one of these operators of the ONNX default domain."""
    return node is not None and node.domain in ("", "ai.onnx") and node.op_type in op_types


def input_at(node: ir.Node, index: int) -> ir.Value | None:
    """The input at `index`; None where it is absent or spelled `""`."""
    if index >= len(node.inputs):
        return None
    value = node.inputs[index]
    return None if value is None or value.name == "" else value


def output_used(node: ir.Node, index: int) -> bool:
    """Whether anything reads output `index`, the graph's outputs included."""
    if index >= len(node.outputs):
        return False
    value = node.outputs[index]
    return value.is_graph_output() or bool(value.uses())


def attr_int(node: ir.Node, name: str, default: int | None = None) -> Any:
    """Integer attribute or its default; a reference to a function's attribute reads as None."""
    attr = node.attributes.get(name)
    if attr is None:
        return default
    return None if attr.is_ref() else attr.as_int()


def attr_float(node: ir.Node, name: str, default: float) -> float:
    """Float attribute or its default."""
    attr = node.attributes.get(name)
    return default if attr is None or attr.is_ref() else float(attr.as_float())


def attr_ints(node: ir.Node, name: str) -> list[int] | None:
    """Integer-list attribute; None where absent."""
    attr = node.attributes.get(name)
    return None if attr is None or attr.is_ref() else [int(item) for item in attr.as_ints()]


def attr_str(node: ir.Node, name: str, default: str) -> str:
    """String attribute or its default."""
    attr = node.attributes.get(name)
    return default if attr is None or attr.is_ref() else attr.as_string()


def dims(value: ir.Value | None) -> list[int | str | None] | None:
    """Dimensions: int, symbol or None (unknown) each; None when the rank itself is unknown."""
    if value is None:
        return None
    shape: ir.ShapeProtocol | None = value.shape
    if shape is None and value.const_value is not None:
        shape = value.const_value.shape
    return None if shape is None else [dim if isinstance(dim, int) else dim.value for dim in shape]


_SAME_SHAPE = ("BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization",
               "Relu", "LeakyRelu", "Identity")  # fmt: skip


def keeps_shape(node: ir.Node) -> bool:
    """Whether output 0 has the shape of input 0, also where shape inference does not say so."""
    return is_op(node, *_SAME_SHAPE) and bool(node.inputs) and node.inputs[0] is not None


def dims_by_weights(node: ir.Node) -> list[int | str | None] | None:
    """What the weights of a Conv, ConvTranspose or Gemm tell of its output, whatever its input is."""
    if is_op(node, "Gemm"):
        return [None, None]
    if not is_op(node, "Conv", "ConvTranspose") or len(node.inputs) < 2:
        return None
    weight = dims(node.inputs[1])
    if weight is None or len(weight) < 3:
        return None
    out = weight[0] if node.op_type == "Conv" else weight[1]
    if isinstance(out, int) and node.op_type == "ConvTranspose":
        out *= attr_int(node, "group", 1)
    return [None, out, *[None] * (len(weight) - 2)]


def rank(value: ir.Value | None) -> int | None:
    """Number of dimensions, or None."""
    shape = dims(value)
    return None if shape is None else len(shape)


def is_stored(value: ir.Value) -> bool:
    """An initializer, an input or a Constant's output: nothing has to be computed for it."""
    node = value.producer()
    return node is None or node.op_type == "Constant"


def opset(model: ir.Model) -> int:
    """Version of the default operator set."""
    return model.graph.opset_imports.get("", model.graph.opset_imports.get("ai.onnx", 1))


def graphs(model: ir.Model) -> Iterator[ir.Graph]:
    """The main graph and every graph nested in it, functions' bodies left out."""
    yield model.graph
    yield from model.graph.subgraphs()


def used_names(model: ir.Model) -> set[str]:
    """Every value and node name anywhere in the model: a new name must be none of them."""
    names: set[str] = set()
    for graph in graphs(model):
        names.update(value.name for value in graph.inputs if value.name)
        names.update(graph.initializers)
        for node in graph:
            names.update(value.name for value in node.outputs if value.name)
            if node.name:
                names.add(node.name)
    return names


def replace_value(old: ir.Value, new: ir.Value) -> None:
    """Let `new` stand wherever `old` was read. A graph output keeps its name, type and shape.

    `new` must hold the numbers that `old` was to hold. Where `new` cannot itself be that output (it is an
    input, an initializer, an output already, or lives in an enclosing graph), an Identity carries the name.
    """
    if not old.is_graph_output():
        old.replace_all_uses_with(new)
        return
    graph = old.graph
    assert graph is not None
    if new.producer() is None or new.is_graph_output() or new.graph is not graph:
        carrier = ir.node("Identity", [new])
        graph.append(carrier)
        _redirect_inner_uses(old, new)
        new = carrier.outputs[0]
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    shape = old.shape
    take_name(old, new)
    new.shape = shape  # also where it says nothing: the interface is the user's


def _redirect_inner_uses(old: ir.Value, new: ir.Value) -> None:
    for user, index in old.uses():
        user.replace_input_with(index, new)


def take_name(old: ir.Value, new: ir.Value) -> None:
    """Give `new` the name, type and shape of `old`, which is about to go."""
    name, old.name = old.name, None
    new.name = name
    new.type = old.type or new.type
    new.shape = old.shape or new.shape


def prune(nodes: list[ir.Node]) -> None:
    """Remove the nodes that nothing reads any more, then their inputs' producers, then dead initializers.

    Initializers that are also graph inputs stay: they belong to the interface.
    """
    work = list(nodes)
    while work:
        node = work.pop()
        if node.graph is None or any(output_used(node, i) for i in range(len(node.outputs))):
            continue
        inputs = [value for value in node.inputs if value is not None]
        node.graph.remove(node, safe=True)
        for value in inputs:
            producer = value.producer()
            if producer is not None:
                work.append(producer)
            else:
                drop_initializer(value)


def drop_initializer(value: ir.Value) -> None:
    """Forget an initializer that nothing reads and that is no part of the interface."""
    if not value.is_initializer() or value.uses():
        return
    if value.is_graph_input() or value.is_graph_output() or value.graph is None:
        return
    value.graph.initializers.pop(value.name or "")
