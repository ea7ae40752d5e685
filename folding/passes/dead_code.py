"""Nodes, initializers, functions and opset imports that nothing uses."""

from __future__ import annotations

import onnx_ir as ir

from folding.ir.query import STANDARD, all_graphs, graph_of, has_graphs, unused

_OPTIONAL_OUTPUTS = frozenset({"Dropout", "MaxPool", "BatchNormalization", "LayerNormalization"})
_TRAINING_MODE_SINCE = 14


def remove_dead_code(model: ir.Model) -> bool:
    """Backwards over every graph, so that one walk is enough; then what only dead code referred to."""
    changed = False
    for graph in all_graphs(model):
        changed |= _remove_nodes(graph)
    for graph in all_graphs(model):
        for name, value in list(graph.initializers.items()):
            if unused(value) and not value.is_graph_input():
                del graph.initializers[name]
                changed = True
    return _remove_functions(model) or changed


def _remove_nodes(graph: ir.Graph) -> bool:
    changed = False
    for node in reversed(graph):
        if all(unused(value) for value in node.outputs):
            graph.remove(node, safe=True)
            changed = True
        elif node.op_type in _OPTIONAL_OUTPUTS and node.domain in STANDARD:
            changed |= _trim_outputs(node)
        elif has_graphs(node):
            changed |= _remove_inside(node)
    return changed


def _remove_inside(node: ir.Node) -> bool:
    changed = False
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            changed |= _remove_nodes(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            for graph in attribute.as_graphs():
                changed |= _remove_nodes(graph)
    return changed


def _trim_outputs(node: ir.Node) -> bool:
    """Drop trailing outputs that nobody reads (a dropout mask, pooling indices)."""
    if node.op_type == "BatchNormalization" and not _inference(node):
        return False  # the operator must have them all then
    wanted = max(i for i, value in enumerate(node.outputs) if not unused(value)) + 1
    if wanted == len(node.outputs):
        return False
    node.resize_outputs(wanted)
    return True


def _inference(node: ir.Node) -> bool:
    """Before opset 14, that outputs are named asks for training mode, whether or not they are read."""
    if graph_of(node).opset_imports.get("", 1) >= _TRAINING_MODE_SINCE:
        return not node.attributes.get_int("training_mode", 0)
    named = [value for value in node.outputs[1:] if value.name]
    return not named or bool(node.attributes.get_int("is_test", 0))


def _remove_functions(model: ir.Model) -> bool:
    """Model-local functions that no graph and no other kept function calls."""
    wanted: set[ir.OperatorIdentifier] = set()
    stack = [node for graph in all_graphs(model) for node in graph]
    while stack:
        identifier = stack.pop().op_identifier()
        if identifier in model.functions and identifier not in wanted:
            wanted.add(identifier)
            stack.extend(model.functions[identifier].all_nodes())
    for identifier in [i for i in model.functions if i not in wanted]:
        del model.functions[identifier]
    used = {node.domain for graph in all_graphs(model) for node in graph}
    used |= {node.domain for function in model.functions.values() for node in function.all_nodes()}
    imports = model.graph.opset_imports
    stale = [domain for domain in imports if domain not in STANDARD and domain not in used]
    for domain in stale:
        del imports[domain]
    return bool(stale)
