"""Shapes at the border of loop bodies, as the converter wrote them and as they are.

Given:  Loop(n, c, w (5, 18)) { body(i, c, w ()) -> ... }     a weight, told to be a scalar
Result: Loop(n, c, w (5, 18)) { body(i, c, w) -> ... }

The converter takes a captured value of unknown shape for a scalar. Without the claim, all is inferred.
"""

from __future__ import annotations

from typing import Any


def drop_false_scalars(proto: Any) -> None:
    """Rewrite a ModelProto in place."""
    _walk(proto.graph, {})


def _walk(graph: Any, outer: dict[str, int]) -> None:
    ranks = dict(outer)
    ranks.update({tensor.name: len(tensor.dims) for tensor in graph.initializer})
    for value in (*graph.input, *graph.value_info):
        if value.type.tensor_type.HasField("shape"):
            ranks[value.name] = len(value.type.tensor_type.shape.dim)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                if node.op_type == "Loop":
                    _loop(node, attribute.g, ranks)
                _walk(attribute.g, ranks)


def _loop(node: Any, body: Any, ranks: dict[str, int]) -> None:
    false = set()
    for position, name in enumerate(node.input[2:]):
        inner = body.input[2 + position]
        if ranks.get(name, 1) and _is_scalar(inner):
            inner.type.tensor_type.ClearField("shape")
            false.add(inner.name)
            result = body.output[1 + position]
            if _is_scalar(result):
                result.type.tensor_type.ClearField("shape")
    if false:
        del body.value_info[:]  # inferred from the same claim


def _is_scalar(value: Any) -> bool:
    kind = value.type.tensor_type
    return bool(kind.HasField("shape")) and not len(kind.shape.dim)
