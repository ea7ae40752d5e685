"""Walk the nodes of an ONNX message, bodies included, and name the functions that they call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

Key = tuple[str, str, str]


def function_key(domain: str, name: str, item: Any) -> Key:
    """Return what identifies a function, or the one that a node calls: domain, name and overload."""
    overload = getattr(item, "overload", "")
    return ("" if domain == "ai.onnx" else domain, name, overload)


def all_nodes(bodies: Iterable[Any]) -> Iterator[Any]:
    """Yield every node, those of bodies included, without recursion."""
    pending = [node for body in bodies for node in body]
    while pending:
        node = pending.pop()
        yield node
        for graph in subgraphs(node):
            pending.extend(graph.node)


def subgraphs(node: Any) -> Iterator[Any]:
    """Yield the bodies of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def calls_of(nodes: Any, functions: dict[Key, Any]) -> list[Key]:
    """Return the model-local functions that the nodes, and the bodies inside them, call."""
    keys = (function_key(node.domain, node.op_type, node) for node in all_nodes([nodes]))
    return [found for found in keys if found in functions]


def count_of(nodes: Any) -> int:
    """Return the number of nodes, those of bodies included."""
    return sum(1 for _ in all_nodes([nodes]))
