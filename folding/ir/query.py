"""Questions about the nodes, attributes, constants and uses of an onnx_ir graph.

Nothing here knows what a batch norm is. All answers are conservative: `None` means "cannot be told".
Questions about shapes stand in `folding/ir/shapes.py`, edits in `folding/ir/edit.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from folding.errors import UsageError
from folding.ir.types import Array

STANDARD = ("", "ai.onnx")
FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})
_NESTING = frozenset({"If", "Loop", "Scan", "SequenceMap"})


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether the node is one of these operators of the default domain."""
    return node is not None and node.op_type in op_types and node.domain in STANDARD


def graph_of(node: ir.Node) -> ir.Graph:
    """The graph that holds the node (a function body counts as one)."""
    graph = node.graph
    assert graph is not None, "a node that was removed"
    return graph


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


def opset(where: ir.Model | ir.Node) -> int:
    """Version of the default domain; nested graphs know it from `index_names` on."""
    graph = graph_of(where) if isinstance(where, ir.Node) else where.graph
    return graph.opset_imports.get("", graph.opset_imports.get("ai.onnx", 1))


def used_names(model: ir.Model) -> set[str]:
    """Every value and node name anywhere in the model: a new name must be none of them."""
    names: set[str] = set()
    for graph in all_graphs(model):
        names.update(value.name for value in graph.inputs if value.name)
        names.update(graph.initializers)
        for node in graph:
            names.update(value.name for value in node.outputs if value.name)
            if node.name:
                names.add(node.name)
    return names


def artifact_input(inputs: Mapping[str, ir.Value], name: str) -> ir.Value:
    """Return an input by its name. Raises: UsageError `unknown_input`, which lists those there are."""
    if name not in inputs:
        raise UsageError(
            f"The artifact has no input called {name!r}; it has {', '.join(inputs)}.",
            code="unknown_input",
            hint="Names are those of the artifact; `bnfold inspect` lists them.",
            details={"candidates": sorted(inputs)[:50]},
        )
    return inputs[name]


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


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """An attribute's value; lists as lists; the default when absent or bound to a function's parameter."""
    found = node.attributes.get(name)
    if found is None or found.is_ref():
        return default
    return list(found.value) if isinstance(found.value, tuple) else found.value


def axes_of(node: ir.Node, index: int = 1) -> list[int] | None:
    """`axes`, an attribute in older opsets and input `index` in newer ones; None when absent or dynamic."""
    if "axes" in node.attributes:
        return attribute(node, "axes")  # type: ignore[no-any-return]
    return ints(node.inputs[index]) if len(node.inputs) > index else None


def has_references(node: ir.Node) -> bool:
    """Whether an attribute's value is only known where the function is called."""
    return any(found.is_ref() for found in node.attributes.values())


def has_graphs(node: ir.Node) -> bool:
    """Whether the node carries nested graphs (If, Loop, Scan)."""
    kinds = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    return any(found.type in kinds for found in node.attributes.values())


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


def float_dtype(value: ir.Value) -> np.dtype[Any]:
    """The dtype of a value; float32 where it is not declared."""
    return value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)


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


def is_stored(value: ir.Value) -> bool:
    """An initializer, an input or a Constant's output: nothing has to be computed for it."""
    node = value.producer()
    return node is None or node.op_type == "Constant"


def only_user(value: ir.Value) -> ir.Node | None:
    """The node that is the value's single use, when nothing else (no graph output either) reads it."""
    if value.is_graph_output():
        return None
    uses = value.uses()
    return next(iter(uses))[0] if len(uses) == 1 else None


def unused(value: ir.Value) -> bool:
    """Nobody reads it."""
    return not value.uses() and not value.is_graph_output()
