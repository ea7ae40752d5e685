"""Which names a fold may legitimately reuse for another value.

An affine that moves changes the values on its way: those between it and the layer that took it. Only there
may a name of the source stand for something else in the artifact; elsewhere equal names are equal values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import onnx

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


def untouched(source: Loaded, artifact: Loaded, names: Iterable[str]) -> list[str]:
    """Names whose value is made and read by the same operators in both graphs, under the same names.

    No affine came or went there, so the name stands for the same value: if it differs, it is off.
    """
    mine, theirs = _readers(source), _readers(artifact)
    return [
        name
        for name in names
        if _signature(source, source.produced[name]) == _signature(artifact, artifact.produced[name])
        and mine[name] <= theirs[name]
    ]


def _signature(graph: Loaded, node: onnx.NodeProto) -> tuple[str, list[str]]:
    """The operator and what it reads, constants left out."""
    constants = {tensor.name for tensor in graph.proto.graph.initializer} | set(graph.weights)
    return node.op_type, [name for name in node.input if name not in constants]


def _readers(graph: Loaded) -> dict[str, set[tuple[str, str]]]:
    """Value -> operators that read it, each with the name of its first result."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for node in graph.proto.graph.node:
        for name in node.input:
            found[name].add((node.op_type, node.output[0]))
    return found
