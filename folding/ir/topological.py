"""Topological order of protobuf nodes, a nested graph's outer reads included.

A node reads its inputs and whatever the graphs inside it read from around them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import Any


def sort_nodes(nodes: Sequence[Any]) -> list[Any] | None:
    """NodeProtos in a topological order that keeps the given one where it can; linear but for a heap.

    Returns: None when they are sorted already, and when they cannot be (a cycle).
    """
    makers: dict[str, int] = {}
    for position, node in enumerate(nodes):
        for name in node.output:
            if name:
                makers.setdefault(name, position)
    sources = [_sources(node, position, makers) for position, node in enumerate(nodes)]
    if all(source < position for position, found in enumerate(sources) for source in found):
        return None
    readers: list[list[int]] = [[] for _ in nodes]
    missing = [len(found) for found in sources]
    for position, found in enumerate(sources):
        for source in found:
            readers[source].append(position)
    ready = [position for position, count in enumerate(missing) if not count]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        position = heapq.heappop(ready)
        order.append(position)
        for reader in readers[position]:
            missing[reader] -= 1
            if not missing[reader]:
                heapq.heappush(ready, reader)
    return [nodes[position] for position in order] if len(order) == len(nodes) else None


def _sources(node: Any, position: int, makers: dict[str, int]) -> set[int]:
    """Positions of the nodes that make what this one reads; a node that reads itself is a cycle."""
    return {makers[name] for name in _reads(node) if name in makers}


def _reads(node: Any) -> set[str]:
    """Names that the node reads, its nested graphs' outer values among them."""
    names = {name for name in node.input if name}
    for attribute in node.attribute:
        for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            names |= _outer(graph)
    return names


def _outer(graph: Any) -> set[str]:
    """Names that a nested graph reads or hands on and does not make itself."""
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    own |= {sparse.values.name for sparse in graph.sparse_initializer}
    own |= {name for node in graph.node for name in node.output}
    return (_read_by(graph.node) | {value.name for value in graph.output}) - own


def _read_by(nodes: Iterable[Any]) -> set[str]:
    names: set[str] = set()
    for node in nodes:
        names |= _reads(node)
    return names
