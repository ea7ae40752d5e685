"""Weights that freezing had put into the graph become placeholders again."""

from __future__ import annotations

import numpy as np

from folding.sources.tensorflow.graph.tf_graph import (
    TfGraph,
    const_value,
    data_inputs,
    dtype_of,
    shape_attr,
)

LARGE = 4096  # elements: a constant from here on is a weight, not a parameter of the structure
_FLOATS = frozenset({1, 2, 14, 19})


def detach_constants(graph: TfGraph, readable: TfGraph, roles: set[str]) -> dict[str, np.ndarray]:
    """Weights that freezing had put into the graph: placeholders again, their arrays kept aside."""
    detached: dict[str, np.ndarray] = {}
    for name, node in list(graph.nodes.items()):
        if node.op != "Const" or dtype_of(node) not in _FLOATS:
            continue
        dims = [dim.size for dim in node.attr["value"].tensor.tensor_shape.dim]
        large = int(np.prod(dims, dtype=np.int64)) >= LARGE
        if dims and (large or name in roles or _read_like_a_variable(graph, name)):
            value = const_value(node)
            if value is None:
                continue
            detached[name] = value
            for each in (graph, readable):
                if name in each.nodes:
                    to_placeholder(each, name, value)
    return detached


def _read_like_a_variable(graph: TfGraph, name: str) -> bool:
    reader = graph.nodes.get(f"{name}/read")
    if reader is None:
        reader = next((graph.nodes[n] for n in (f"{name}/ReadVariableOp",) if n in graph.nodes), None)
    return reader is not None and reader.op == "Identity" and name in data_inputs(reader)


def to_placeholder(graph: TfGraph, name: str, value: np.ndarray) -> None:
    """The node becomes an input of the value's shape; the value is kept elsewhere."""
    node = graph.nodes[name]
    dtype = dtype_of(node)
    del node.input[:]
    node.op = "Placeholder"
    node.attr.clear()
    node.attr["dtype"].type = dtype
    node.attr["shape"].CopyFrom(shape_attr(list(value.shape)))
