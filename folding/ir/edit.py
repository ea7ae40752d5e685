"""Edits of an onnx_ir graph: add nodes and constants, replace values, remove what nothing reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from folding.ir.query import all_graphs, graph_of, has_graphs, output_used, unused
from folding.ir.shapes import INFERRED
from folding.ir.types import Array

_NAMES = "bnfold.names"
KEEP_BRANCHES = "bnfold.keep_branches"


def open_graphs(model: ir.Model) -> list[ir.Graph]:
    """The graphs that passes may rewrite: all, or the main one alone where branches are to stay."""
    return [model.graph] if model.meta.get(KEEP_BRANCHES) else all_graphs(model)


def index_names(model: ir.Model) -> None:
    """What passes rely on: nested graphs know the opsets, and all graphs share one set of taken names."""
    names: set[str | None] = set()
    for graph in all_graphs(model):
        graph.opset_imports.update(model.graph.opset_imports)
        names |= {value.name for value in graph.inputs} | set(graph.initializers)
        names |= {value.name for node in graph for value in node.outputs}
        graph.meta[_NAMES] = names


def fresh_name(graph: ir.Graph, wanted: str) -> str:
    """`wanted`, or the first `wanted_N` that no value of the model has."""
    names = graph.meta[_NAMES]
    name, count = wanted, 0
    while name in names:
        count += 1
        name = f"{wanted}_{count}"
    names.add(name)
    return name


def initializer(graph: ir.Graph, name: str, data: Array | ir.TensorProtocol) -> ir.Value:
    """A new initializer of `graph`, under `name` or a fresh variation of it."""
    return named_initializer(graph, fresh_name(graph, name), data)


def named_initializer(graph: ir.Graph, name: str, data: Array | ir.TensorProtocol) -> ir.Value:
    """A new initializer of `graph` under a name that is known to be free."""
    content = ir.Tensor(data, name=name) if isinstance(data, np.ndarray | np.generic) else data
    value = ir.Value(
        name=name,
        type=ir.TensorType(content.dtype),
        shape=ir.Shape(content.shape.numpy()),
        const_value=content,
    )
    graph.register_initializer(value)
    return value


def append(graph: ir.Graph, op: str, inputs: Sequence[ir.Value], name: str, **attributes: Any) -> ir.Value:
    """One more node of the default domain; its output has its name and the type of its first input."""
    node = ir.node(op, inputs, attributes=attributes or None, name=name)
    node.outputs[0].name = name
    node.outputs[0].type = inputs[0].type
    graph.append(node)
    return node.outputs[0]


def insert(
    before: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: dict[str, Any] | None = None,
    *,
    name: str = "",
    like: ir.Value | None = None,
    shape: Any = None,
) -> ir.Value:
    """A new one-output node before another; its type is that of `like` or of the first input."""
    graph = graph_of(before)
    converted = [] if attributes is None else ir.convenience.convert_attributes(attributes)
    node = ir.Node("", op_type, inputs, converted, name=name or None)
    source = like if like is not None else inputs[0]
    if source is not None and source.type is not None:
        node.outputs[0].type = source.type
    if shape is not None:
        node.outputs[0].shape = ir.Shape(shape)
    node.outputs[0].name = fresh_name(graph, name or f"{op_type.lower()}_out")
    graph.insert_before(before, node)
    return node.outputs[0]


def replace(old: ir.Value, new: ir.Value) -> bool:
    """Let every reader of `old` read `new`, and remove old's node if that leaves it without readers.

    A graph output keeps its name: `new` takes it over if it can, else nothing is done and False returned.
    """
    if old.is_graph_output():
        producer = new.producer()
        free = producer is not None and not new.is_graph_output() and new.graph is old.graph
        if not free or not _compatible(old, new):
            return False
        name, shape, kind = old.name, old.shape, old.type
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        old.name = f"{name}_replaced"
        become_output(new, name, shape, kind)
    else:
        if new.shape is None or (old.shape is not None and len(old.shape) == len(new.shape)):
            _refine(new, old)
        old.replace_all_uses_with(new)
    node = old.producer()
    if node is not None:
        remove_if_unused(node)
    return True


def become_output(
    value: ir.Value, name: str | None, declared: ir.Shape | None, kind: ir.TypeProtocol | None
) -> None:
    """Take over an output's name, type and declared shape; what was known of the shape is kept beside."""
    if value.shape is not None:
        value.meta[INFERRED] = value.shape
    value.name = name
    value.type = kind if kind is not None else value.type
    value.shape = declared if declared is not None else value.shape


def _compatible(old: ir.Value, new: ir.Value) -> bool:
    """The declared interface of an output must fit its new producer."""
    if old.dtype is not None and new.dtype is not None and old.dtype != new.dtype:
        return False
    return old.shape is None or new.shape is None or len(old.shape) == len(new.shape)


def _refine(new: ir.Value, old: ir.Value) -> None:
    if new.type is None:
        new.type = old.type
    if old.shape is None or new.is_graph_input() or new.is_graph_output() or new.is_initializer():
        return
    if new.shape is None:
        new.shape = old.shape.copy()
        return
    new.shape = ir.Shape([
        n if isinstance(n, int) else o if isinstance(o, int) or n.value is None else n
        for n, o in zip(new.shape, old.shape, strict=True)
    ])  # fmt: skip


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


def remove_if_unused(node: ir.Node) -> bool:
    """Remove a node that nobody reads, and then whatever fed only it."""
    stack, removed = [node], False
    while stack:
        candidate = stack.pop()
        graph = candidate.graph
        if graph is None or not all(unused(value) for value in candidate.outputs) or has_graphs(candidate):
            continue
        feeding = [value.producer() for value in candidate.inputs if value is not None]
        graph.remove(candidate, safe=True)
        removed = True
        stack += [producer for producer in feeding if producer is not None]
    return removed


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


def remove_dead_nodes(graph: ir.Graph) -> None:
    """Remove what nothing reads from one sorted graph: nodes, then initializers."""
    for node in reversed(graph):
        if all(unused(value) for value in node.outputs):
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if unused(value):
            del graph.initializers[name]
