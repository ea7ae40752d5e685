"""Questions about an onnx_ir graph and small edits, as passes need them. No pass logic here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from folding.ir.types import Array

STANDARD = ("", "ai.onnx")


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether the node is one of these operators of the default domain."""
    return node is not None and node.op_type in op_types and node.domain in STANDARD


_NAMES = "bnfold.names"
_NESTING = frozenset({"If", "Loop", "Scan", "SequenceMap"})


def all_graphs(model: ir.Model) -> list[ir.Graph]:
    """The main graph and every nested one, outer before inner (`Model.graphs` takes 20 times as long)."""
    found = [model.graph]
    for graph in found:
        for node in graph:
            if node.op_type in _NESTING or node.domain not in STANDARD:
                for attribute in node.attributes.values():
                    if attribute.is_ref():
                        continue
                    if attribute.type == ir.AttributeType.GRAPH:
                        found.append(attribute.as_graph())
                    elif attribute.type == ir.AttributeType.GRAPHS:
                        found.extend(attribute.as_graphs())
    return found


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


def opset(node: ir.Node) -> int:
    """Version of the default domain (`adopt` told nested graphs about it)."""
    return graph_of(node).opset_imports.get("", 1)


def tensor(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The constant behind a value that nobody can override, else None."""
    if value is None or value.is_graph_input():
        return None
    if value.is_initializer():
        return value.const_value
    node = value.producer()
    if node is not None and is_op(node, "Constant"):
        attribute = node.attributes.get("value")
        if attribute is not None and not attribute.is_ref():
            return attribute.as_tensor()
    return None


def array(value: ir.Value | None) -> Array | None:
    """The numpy array behind a constant value, else None."""
    found = tensor(value)
    return None if found is None else found.numpy()


def scalar(value: ir.Value | None) -> float | None:
    """The one number in a constant value, else None."""
    found = tensor(value)
    if found is None or found.size != 1 or found.dtype == ir.DataType.STRING:
        return None
    return float(found.numpy().reshape(()).item())


def ints(value: ir.Value | None) -> list[int] | None:
    """A constant integer vector (or scalar) as a list, else None."""
    found = array(value)
    if found is None or found.dtype.kind not in "iu":
        return None
    return [int(number) for number in found.reshape(-1)]


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """An attribute's value; lists as lists; the default when absent or bound to a function's parameter."""
    found = node.attributes.get(name)
    if found is None or found.is_ref():
        return default
    return list(found.value) if isinstance(found.value, tuple) else found.value


def has_references(node: ir.Node) -> bool:
    """Whether an attribute's value is only known where the function is called."""
    return any(found.is_ref() for found in node.attributes.values())


def has_graphs(node: ir.Node) -> bool:
    """Whether the node carries nested graphs (If, Loop, Scan)."""
    kinds = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    return any(found.type in kinds for found in node.attributes.values())


def axes_of(node: ir.Node, index: int = 1) -> list[int] | None:
    """`axes`, an attribute in older opsets and input `index` in newer ones; None when absent or dynamic."""
    if "axes" in node.attributes:
        return attribute(node, "axes")  # type: ignore[no-any-return]
    return ints(node.inputs[index]) if len(node.inputs) > index else None


INFERRED = "bnfold.inferred_shape"


def shape_of(value: ir.Value | None) -> ir.Shape | None:
    """Return what is known of a value's shape.

    A graph output declares what its author wrote, which may be more than is true and which no runtime
    enforces; what inference found out about it is kept beside that, and counts alone.
    """
    if value is None:
        return None
    if value.is_graph_output():
        return value.meta.get(INFERRED)
    return value.shape


def dims(value: ir.Value | None) -> list[int | None] | None:
    """Shape with None for what is not a number; None when the rank is unknown."""
    shape = shape_of(value)
    return None if shape is None else [dim if isinstance(dim, int) else None for dim in shape]


def rank(value: ir.Value | None) -> int | None:
    """Number of axes, when known."""
    shape = shape_of(value)
    return None if shape is None else len(shape)


def same_shape(a: ir.Value | None, b: ir.Value | None) -> bool:
    """Both shapes known and equal, symbolic dimensions by name (nameless ones differ)."""
    one, two = shape_of(a), shape_of(b)
    if one is None or two is None or len(one) != len(two):
        return False
    return all(x == y and (isinstance(x, int) or x.value is not None) for x, y in zip(one, two, strict=True))


def only_user(value: ir.Value) -> ir.Node | None:
    """The node that is the value's single use, when nothing else (no graph output either) reads it."""
    if value.is_graph_output():
        return None
    uses = value.uses()
    return next(iter(uses))[0] if len(uses) == 1 else None


def unused(value: ir.Value) -> bool:
    """Nobody reads it."""
    return not value.uses() and not value.is_graph_output()


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
    name = fresh_name(graph, name)
    content = ir.Tensor(data, name=name) if isinstance(data, np.ndarray | np.generic) else data
    value = ir.Value(
        name=name,
        type=ir.TensorType(content.dtype),
        shape=ir.Shape(content.shape.numpy()),
        const_value=content,
    )
    graph.register_initializer(value)
    return value


def graph_of(node: ir.Node) -> ir.Graph:
    """The graph that holds the node (a function body counts as one)."""
    graph = node.graph
    assert graph is not None, "a node that was removed"
    return graph


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
