"""Which names a fold may legitimately reuse for another value.

An affine that moves changes the values on its way: those between it and the layer that took it. Only there
may a name of the source stand for something else in the artifact; elsewhere equal names are equal values.
"""

from __future__ import annotations

from folding.rules.registry import TRANSPARENT
from folding.verify.model import Loaded

PASSED = frozenset(op for rule in TRANSPARENT for op in rule.ops)
ARITHMETIC = frozenset(("Mul", "Add", "Sub", "Div"))


def reusable(source: Loaded) -> set[str]:
    """Values on the way of an affine: before one, or behind one, with transparent nodes only between."""
    graph = source.proto.graph
    constants = {tensor.name for tensor in graph.initializer} | set(source.weights)
    for (
        node
    ) in graph.node:  # also what is computed from constants alone, such as 1 / sqrt(variance + epsilon)
        if all(name in constants for name in node.input if name) and not node.op_type.startswith("Random"):
            constants.update(node.output)
    before: set[str] = set()
    behind: set[str] = set()
    for node in graph.node:
        affine = node.op_type == "BatchNormalization" or (
            node.op_type in ARITHMETIC and any(name in constants for name in node.input)
        )
        if affine or (node.op_type in PASSED and behind.intersection(node.input)):
            behind.update(node.output)
        if affine:
            before.update(name for name in node.input if name not in constants)
    for node in reversed(graph.node):
        if node.op_type in PASSED and before.intersection(node.output):
            before.update(name for name in node.input if name not in constants)
    return before | behind
