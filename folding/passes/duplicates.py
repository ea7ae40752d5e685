"""Common subexpressions and equal initializers, once each.

Given:  y1 = Op(a, b); y2 = Op(a, b)      w1 == w2
Result: readers of y2 read y1             readers of w2 read w1
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from folding.ir.edit import replace
from folding.ir.query import STANDARD, all_graphs, has_graphs

_RANDOM = frozenset({"RandomUniform", "RandomNormal", "RandomUniformLike", "RandomNormalLike", "Multinomial",
                     "Bernoulli", "Dropout"})  # fmt: skip
_COMPARED = frozenset({
    ir.AttributeType.INT, ir.AttributeType.FLOAT, ir.AttributeType.STRING, ir.AttributeType.INTS,
    ir.AttributeType.FLOATS, ir.AttributeType.STRINGS,
})  # fmt: skip
_HASHED = 64  # elements that are looked at before two tensors are compared whole


def merge_nodes(model: ir.Model) -> bool:
    """Common subexpression elimination, graph by graph, in one walk."""
    changed = False
    for graph in all_graphs(model):
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
            whole = found.as_tensor()
            content = (whole.dtype, tuple(whole.shape.numpy()), whole.tobytes())
        elif found.type not in _COMPARED:
            return None  # types and sparse tensors: equal ones are rare, and they have no hash
        elif isinstance(content, list):
            content = tuple(content)
        attributes.append((name, found.type, content))
    return (node.op_type, tuple(id(value) for value in node.inputs), len(node.outputs), tuple(attributes))


def _fingerprint(tensor: ir.TensorProtocol) -> Any:
    """Equal for equal tensors; unequal ones differ in their first bytes, mostly."""
    head = tensor.numpy().reshape(-1)[:_HASHED]
    return (tensor.dtype, tuple(tensor.shape.numpy()), head.tobytes())


def merge_initializers(model: ir.Model) -> bool:
    """One initializer for equal tensors of one graph; those that are inputs or outputs stay."""
    changed = False
    for graph in all_graphs(model):
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
    kept: dict[Any, list[ir.Value]] = {}
    for value in group:
        assert value.const_value is not None
        alike = kept.setdefault(_fingerprint(value.const_value), [])
        match = next((v for v in alike if _equal(v.const_value, value.const_value)), None)
        if match is None:
            alike.append(value)
            continue
        value.replace_all_uses_with(match)
        graph.initializers.pop(value.name or "")
        changed = True
    return changed


def _equal(a: ir.TensorProtocol | None, b: ir.TensorProtocol | None) -> bool:
    """Bit for bit: NaN equals itself, 0 and -0 differ."""
    if a is None or b is None:
        return False
    x, y = np.ascontiguousarray(a.numpy()), np.ascontiguousarray(b.numpy())
    return bool(np.array_equal(x.reshape(-1).view(np.uint8), y.reshape(-1).view(np.uint8)))
