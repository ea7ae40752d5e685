"""Dropout in an inference graph: found by its random mask, whatever its rate is called.

Given:  mask = GreaterEqual(uniform, rate=0)  |  mask = Floor(keep=1 + uniform)
Result: mask = 1

`remove_dropout` takes it out where its rate is not 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from folding.sources.tensorflow.graph.constant_eval import evaluate
from folding.sources.tensorflow.graph.tf_graph import (
    RANDOM_OPS,
    Node,
    TfGraph,
    data_inputs,
    dtype_of,
    numpy_dtype,
    split,
)

ADDITIONS = ("Add", "AddV2")


@dataclass(frozen=True)
class DropoutMask:
    """`GreaterEqual(uniform, rate)` or `Floor(keep + uniform)`, uniform in [0, 1)."""

    graph: TfGraph
    node: Node
    rate: str

    def is_off(self, known: dict[str, np.ndarray] | None = None) -> bool:
        """True where no element is ever dropped."""
        value = evaluate(self.graph, self.rate, known)
        if value is None or value.size != 1:
            return False
        return bool(value <= 0) if self.node.op == "GreaterEqual" else bool(value == 1)


def dropout_masks(graph: TfGraph, names: set[str]) -> list[DropoutMask]:
    """Every dropout mask among the named nodes."""
    masks = []
    for name in sorted(names):
        node = graph.nodes[name]
        inputs = data_inputs(node)
        if node.op == "GreaterEqual" and is_uniform(graph, inputs[0]):
            masks.append(DropoutMask(graph, node, inputs[1]))
        elif node.op == "Floor":
            added = graph.nodes.get(split(inputs[0])[0])
            if added is not None and added.op in ("Add", "AddV2"):
                left, right = data_inputs(added)
                for rate, noise in ((left, right), (right, left)):
                    if is_uniform(graph, noise):
                        masks.append(DropoutMask(graph, node, rate))
    return masks


def is_uniform(graph: TfGraph, ref: str) -> bool:
    """A uniform random tensor in [0, 1), through `* (1 - 0) + 0`, switches and identities."""
    return draws(
        graph, ref, RANDOM_OPS, lambda op, constant: is_value(graph, constant, float(op == "Mul"), 0.0)
    )


def draws(
    graph: TfGraph, ref: str, ops: frozenset[str], allows: Callable[[str, str], bool], depth: int = 0
) -> bool:
    """Whether `ref` is drawn by one of `ops`, through identities and arithmetic with allowed constants.

    allows: (operator, reference of the constant) -> whether the drawn numbers may go through.
    """
    node = graph.nodes.get(split(ref)[0])
    if node is None or depth > 8:
        return False
    if node.op in ops:
        return True
    inputs = data_inputs(node)
    if node.op in ("Identity", "Cast"):
        return draws(graph, inputs[0], ops, allows, depth + 1)
    if node.op != "Mul" and node.op not in ADDITIONS:
        return False
    return any(
        allows(node.op, constant) and draws(graph, noise, ops, allows, depth + 1)
        for noise, constant in (inputs[:2], inputs[1::-1])
    )


def turn_dropout_off(graph: TfGraph, names: set[str]) -> None:
    """Masks that drop nothing become the constant 1 (True for a comparison)."""
    for mask in dropout_masks(graph, names):
        if mask.is_off():
            dtype = np.bool_ if mask.node.op == "GreaterEqual" else numpy_dtype(dtype_of(mask.node))
            graph.set_constant(mask.node.name, np.asarray(1, dtype))


def is_value(graph: TfGraph, ref: str, wanted: float, relative: float = 1e-5) -> bool:
    """Whether `ref` is one constant number, equal to `wanted` within a relative error."""
    value = evaluate(graph, ref)
    if value is None or value.size != 1:
        return False
    return bool(np.isclose(float(value.reshape(-1)[0]), wanted, rtol=relative, atol=1e-3 * relative))
