"""Common subexpressions and equal initializers, once each.

Given:  y1 = Op(a, b); y2 = Op(a, b)      w1 == w2
Result: readers of y2 read y1             readers of w2 read w1
"""

from __future__ import annotations

import hashlib
from typing import Any

import onnx_ir as ir

from folding.passes.tools import STANDARD, has_graphs, replace

_RANDOM = frozenset({"RandomUniform", "RandomNormal", "RandomUniformLike", "RandomNormalLike", "Multinomial",
                     "Bernoulli", "Dropout"})  # fmt: skip
_HASHED = 1 << 16  # bytes of a large tensor that are hashed before it is compared whole


def merge_nodes(model: ir.Model) -> bool:
    """Common subexpression elimination, graph by graph, in one walk."""
    changed = False
    for graph in [*model.graphs()]:
        seen: dict[Any, ir.Node] = {}
        for node in graph:
            key = _key(node)
            if key is None:
                continue
            first = seen.setdefault(key, node)
            if first is node or any(value.is_graph_output() for value in node.outputs):
                continue
            for old, new in zip(list(node.outputs), first.outputs, strict=True):
                if old.uses():
                    changed |= replace(old, new)
    return changed


def _key(node: ir.Node) -> Any:
    """What makes two nodes compute the same; None for those that are left alone."""
    if node.domain not in STANDARD or node.op_type in _RANDOM or has_graphs(node):
        return None
    attributes = []
    for name in sorted(node.attributes):
        found = node.attributes[name]
        if found.is_ref():
            return None
        content = found.value
        if found.type == ir.AttributeType.TENSOR:
            content = _fingerprint(found.as_tensor())
        elif isinstance(content, list):
            content = tuple(content)
        attributes.append((name, found.type, content))
    return (node.op_type, tuple(id(value) for value in node.inputs), len(node.outputs), tuple(attributes))


def _fingerprint(tensor: ir.TensorProtocol) -> Any:
    data = tensor.numpy()
    head = data.reshape(-1)[: _HASHED // max(data.itemsize, 1)]
    digest = hashlib.blake2b(head.tobytes(), digest_size=16).hexdigest()
    return (tensor.dtype, tuple(tensor.shape.numpy()), digest)


def merge_initializers(model: ir.Model) -> bool:
    """One initializer for equal tensors of one graph; those that are inputs or outputs stay."""
    changed = False
    for graph in [*model.graphs()]:
        groups: dict[Any, list[ir.Value]] = {}
        for value in list(graph.initializers.values()):
            tensor = value.const_value
            if tensor is None or value.is_graph_input() or value.is_graph_output():
                continue
            if tensor.dtype == ir.DataType.STRING:
                continue
            groups.setdefault((tensor.dtype, tuple(tensor.shape.numpy())), []).append(value)
        for group in groups.values():
            if len(group) > 1:
                changed |= _merge_group(graph, group)
    return changed


def _merge_group(graph: ir.Graph, group: list[ir.Value]) -> bool:
    changed = False
    kept: dict[Any, list[tuple[ir.Value, bytes]]] = {}
    for value in group:
        assert value.const_value is not None
        key = _fingerprint(value.const_value)
        whole = value.const_value.tobytes() if value.const_value.nbytes > _HASHED else b""
        match = next((v for v, data in kept.get(key, []) if data == whole), None)
        if match is None:
            kept.setdefault(key, []).append((value, whole))
            continue
        value.replace_all_uses_with(match)
        graph.initializers.pop(value.name or "")
        changed = True
    return changed
