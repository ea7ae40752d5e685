"""The part of a graph that computes some of its values from others that are forced.

Given:  x -> A -> c -> B -> d -> C -> y, wanted {d}, forced {c, d}
Result: c/forced -> B -> d: A and C are gone, and so are their weights.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import onnx

from folding.verify.model import Loaded, bodies, body_reads


def cut_out(loaded: Loaded, wanted: Collection[str], forced: Collection[str]) -> tuple[Loaded, set[str]]:
    """Return the nodes that `wanted` needs when consumers read `forced` values, and which of those are read.

    A forced value that is wanted too is computed, and only its consumers read the forced one.
    """
    graph = loaded.proto.graph
    made = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    kept: set[int] = set()
    read: set[str] = set()
    stack = [made[name] for name in wanted if name in made]
    while stack:
        index = stack.pop()
        if index in kept:
            continue
        kept.add(index)
        for name in reads(graph.node[index]):
            read.add(name)
            if name in made and name not in forced:
                stack.append(made[name])
    proto = onnx.ModelProto()
    proto.CopyFrom(loaded.proto)
    rest = proto.graph
    keep_only(rest.node, [node for i, node in enumerate(graph.node) if i in kept])
    keep_only(rest.input, [value for value in graph.input if value.name in read])
    keep_only(rest.output, [value for value in graph.output if value.name in wanted])
    keep_only(rest.initializer, [tensor for tensor in graph.initializer if tensor.name in read])
    weights = {name: array for name, array in loaded.weights.items() if name in read}
    produced = {name: node for node in rest.node for name in node.output if name}
    return replace(loaded, proto=proto, weights=weights, produced=produced), read & set(forced)


def reads(node: onnx.NodeProto) -> set[str]:
    """Names that a node and the bodies inside it read."""
    return {*node.input, *(name for body in bodies(node) for name in body_reads(body))} - {""}


def keep_only(field: object, values: list[object]) -> None:
    """Replace the contents of a repeated field."""
    del field[:]  # type: ignore[attr-defined]
    field.extend(values)  # type: ignore[attr-defined]
