"""What TensorFlow takes for granted of a graph, and crashes over where it does not hold.

Every input names a node that is there and an output that it has; every node has as many inputs as its op
takes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from folding.errors import CorruptModel
from folding.sources.tensorflow.graph.tf_graph import Node, TfGraph, data_inputs, split

_AGAIN = "The graph was damaged, or cut after it was saved; export it again."


def validate(graph: TfGraph) -> None:
    """Raises CorruptModel: `dangling_reference`, `corrupt_model`."""
    counts: dict[str, int | None] = {}
    for node in graph.nodes.values():
        definition = _definition(graph, node)
        for ref in data_inputs(node):
            name, index = split(ref)
            source = graph.nodes.get(name)
            if source is None:
                raise _dangling(node, ref, "which the graph does not have")
            if name not in counts:
                made = _definition(graph, source)
                counts[name] = None if made is None else _count(source, made.output_arg)
            count = counts[name]
            if index and count is not None and index >= count:
                raise _dangling(node, ref, f"and {source.op} has {count} output(s)")
        if definition is None:
            continue
        wanted, given = _count(node, definition.input_arg), len(data_inputs(node))
        if wanted is not None and wanted != given:
            raise CorruptModel(
                f"Node {node.name!r} ({node.op}) has {given} inputs; the op takes {wanted}.",
                code="corrupt_model",
                layer=node.name,
                hint=_AGAIN,
            )


def _dangling(node: Node, ref: str, why: str) -> CorruptModel:
    return CorruptModel(
        f"Node {node.name!r} ({node.op}) reads {ref!r}, {why}.",
        code="dangling_reference",
        layer=node.name,
        hint=_AGAIN,
    )


def _definition(graph: TfGraph, node: Node) -> Any:
    """The OpDef of an op or function, or None where nothing is known of it."""
    from tensorflow.python.framework import op_def_registry

    function = graph.library.get(node.op)
    return function.signature if function is not None else op_def_registry.get(node.op)


def _count(node: Node, arguments: Iterable[Any]) -> int | None:
    """Tensors behind an OpDef's arguments; None where an attribute that says so is missing."""
    total = 0
    for argument in arguments:
        key = argument.number_attr or argument.type_list_attr
        if key and key not in node.attr:
            return None
        if argument.number_attr:
            total += node.attr[key].i
        elif argument.type_list_attr:
            total += len(node.attr[key].list.type)
        else:
            total += 1
    return total
