"""If nodes whose condition is a constant: the branch that runs, in their place.

Given:  y = If(true) {then: y1 = ...}      Result: y1's nodes in the outer graph
"""

from __future__ import annotations

import onnx_ir as ir

from folding.ir.edit import KEEP_BRANCHES, fresh_name, index_names
from folding.ir.query import all_graphs, array, graph_of


def _constant_condition(node: ir.Node) -> bool:
    condition = array(node.inputs[0])
    if condition is None or condition.size != 1:
        return False
    branch = node.attributes["then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"].as_graph()
    graph = graph_of(node)
    if len(branch.outputs) != len(node.outputs) or not _can_move(branch, node):
        return False
    _move(branch, graph, node)
    return True


def _can_move(branch: ir.Graph, node: ir.Node) -> bool:
    """Every result is made in the branch by its own node, so that it can take over the outer name."""
    made = [value.producer() for value in branch.outputs]
    distinct = len({id(value) for value in branch.outputs}) == len(branch.outputs)
    return distinct and all(producer is not None and producer.graph is branch for producer in made)


def _move(branch: ir.Graph, graph: ir.Graph, node: ir.Node) -> None:
    results = list(branch.outputs)
    branch.outputs.clear()
    for name, value in list(branch.initializers.items()):
        del branch.initializers[name]
        if name in graph.initializers:
            value.name = fresh_name(graph, name)
        graph.register_initializer(value)
    nodes = list(branch)
    branch.remove(nodes)
    graph.insert_before(node, nodes)
    for old, new in zip(list(node.outputs), results, strict=True):
        outer, shape, kind, is_output = old.name, old.shape, old.type, old.is_graph_output()
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        if is_output:
            old.name = fresh_name(graph, f"{outer}_chosen")
            new.name, new.type, new.shape = outer, kind or new.type, shape or new.shape
    graph.remove(node, safe=True)


def resolve(model: ir.Model) -> bool:
    """All If nodes with a constant condition, outer ones first; names are taken anew afterwards."""
    changed = False
    if model.meta.get(KEEP_BRANCHES):
        return False
    for graph in all_graphs(model):
        for node in graph:
            if node.op_type == "If" and node.domain in ("", "ai.onnx") and node.graph is not None:
                changed |= _constant_condition(node)
    if changed:
        index_names(model)
    return changed
