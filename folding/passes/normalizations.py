"""A batch norm that stays between Transposes, as arithmetic that needs none.

Given:  y = Transpose(BatchNormalization(Transpose(x)))    channels brought to axis 1 for the norm's sake
Result: y = x * scale + shift                              along the axis where the channels are
Also Mul and Add around a constant vector never match fusions that mistake the axis (see `hazards`).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding.ir.edit import initializer, insert, replace
from folding.ir.query import array, attribute, graph_of, is_op
from folding.ir.shapes import inferred_rank
from folding.passes.base import Peephole


def as_arithmetic(node: ir.Node) -> bool:
    """Replace an inference-mode BatchNormalization over constants by Mul and Add; float64 inside."""
    x, result = node.inputs[0], node.outputs[0]
    parameters = [array(value) for value in node.inputs[1:5]]
    count = inferred_rank(x)
    if x is None or count is None or count < 2 or any(p is None for p in parameters):
        return False
    if attribute(node, "training_mode", 0) or attribute(node, "spatial", 1) == 0 or len(node.outputs) > 1:
        return False
    if result.dtype is None or result.dtype != node.inputs[1].dtype:  # type: ignore[union-attr]
        return False
    gamma, beta, mean, variance = (np.asarray(p, np.float64) for p in parameters)
    scale = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    shift = beta - mean * scale
    kind, shape = result.dtype.numpy(), (-1, *[1] * (count - 2))
    graph, name = graph_of(node), node.name or result.name
    factors = [initializer(graph, f"{name}_{role}", value.astype(kind).reshape(shape))
               for role, value in (("scale", scale), ("shift", shift))]  # fmt: skip
    known = result.shape
    scaled = insert(node, "Mul", [x, factors[0]], like=result, shape=known, name=f"{result.name}_scaled")
    shifted = insert(
        node, "Add", [scaled, factors[1]], like=result, shape=known, name=f"{result.name}_shifted"
    )
    return replace(result, shifted)


def _between_transposes(node: ir.Node) -> bool:
    """Both sides, so that two Transposes go for one node more."""
    value, result = node.inputs[0], node.outputs[0]
    producer = value.producer() if value is not None else None
    users = [user for user, _ in result.uses()]
    if not is_op(producer, "Transpose") or not users or result.is_graph_output():
        return False
    return all(is_op(user, "Transpose") for user in users) and as_arithmetic(node)


RULES: tuple[tuple[str, Peephole], ...] = (("BatchNormalization", _between_transposes),)
