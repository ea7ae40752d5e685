"""Calls of model-local functions replaced by their bodies, so that folds and passes see through them.

Given:  y = local::Block(x, w)        Block's body
Result: the body's nodes, names made unique
Left as they are: functions whose opsets differ from the model's, whose attributes are graphs, or that call
themselves, and everything when the expansion would pass `LIMIT` nodes.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from folding.ir.edit import index_names
from folding.ir.query import all_graphs

LIMIT = 200_000


def inline_functions(model: ir.Model) -> bool:
    """Inline what can be inlined exactly. True when something was."""
    if not model.functions or _expansion(model) > LIMIT:
        return False
    before = len(model.functions)
    blocked = {name for name, function in model.functions.items() if not _fits(model, function)}
    blocked |= _called_with_graphs(model)
    try:
        result = common.InlinePass(lambda function: function.identifier() not in blocked)(model)
    except ir.passes.InvariantError:
        return False  # functions in a cycle: the checker has its own words for them
    index_names(model)  # graphs that came out of function bodies know neither opsets nor names
    return bool(result.modified) or len(model.functions) != before


def _fits(model: ir.Model, function: ir.Function) -> bool:
    imports = model.graph.opset_imports
    return all(imports.get(domain, version) == version for domain, version in function.opset_imports.items())


def _called_with_graphs(model: ir.Model) -> set[ir.OperatorIdentifier]:
    kinds = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    nodes = [node for graph in all_graphs(model) for node in graph]
    nodes += [node for function in model.functions.values() for node in function.all_nodes()]
    return {
        node.op_identifier()
        for node in nodes
        if node.op_identifier() in model.functions and any(a.type in kinds for a in node.attributes.values())
    }


def _expansion(model: ir.Model) -> int:
    """Nodes after inlining everything; LIMIT + 1 for a cycle."""
    sizes: dict[ir.OperatorIdentifier, int] = {}

    def size(identifier: ir.OperatorIdentifier, path: frozenset[ir.OperatorIdentifier]) -> int:
        if identifier in path or len(path) > 64:
            return LIMIT + 1
        if identifier not in sizes:
            total = 0
            for node in model.functions[identifier].all_nodes():
                inner = node.op_identifier()
                total += size(inner, path | {identifier}) if inner in model.functions else 1
            sizes[identifier] = min(total, LIMIT + 1)
        return sizes[identifier]

    return sum(
        size(node.op_identifier(), frozenset()) if node.op_identifier() in model.functions else 1
        for graph in all_graphs(model)
        for node in graph
    )
