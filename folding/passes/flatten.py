"""A Transpose in front of a flattened dense layer goes into the layer's weights.

Given:  y = Gemm | MatMul (Reshape | Flatten (Transpose(x, p)), W)      x (N, C, H, W'), flattened to (N, K)
Result: y = Gemm | MatMul (Flatten(x), W')                 rows of W in the order in which x lies in memory
NHWC sources flatten channels last; ONNX convolutions deliver channels first.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from folding.passes.base import Peephole
from folding.passes.layout.permutation import inverse
from folding.passes.tools import (
    attribute,
    dims,
    graph_of,
    initializer,
    insert,
    is_op,
    only_user,
    remove_if_unused,
    shape_of,
    tensor,
)


def _dense(node: ir.Node) -> bool:
    flat, weight = node.inputs[0], node.inputs[1]
    if flat is None or weight is None or attribute(node, "transA", 0) or only_user(flat) is not node:
        return False
    source = _flattened_transpose(flat)
    found = tensor(weight)
    if source is None or found is None or len(found.shape) != 2 or not weight.is_initializer():
        return False
    x, perm = source
    inner = dims(x)
    axis = 1 if attribute(node, "transB", 0) else 0
    if inner is None or None in inner[1:] or math.prod(d or 0 for d in inner[1:]) != found.shape[axis]:
        return False
    order = [place - 1 for place in perm[1:]]
    rows = np.arange(found.numpy().shape[axis]).reshape([inner[place] or 1 for place in perm[1:]])
    rows = rows.transpose(inverse(order)).reshape(-1)
    _set_rows(node, weight, np.take(found.numpy(), rows, axis))
    shape = shape_of(flat)
    node.replace_input_with(
        0, insert(node, "Flatten", [x], {"axis": 1}, shape=shape, name=f"{flat.name}_flat")
    )
    producer = flat.producer()
    if producer is not None:
        remove_if_unused(producer)
    return True


def _flattened_transpose(flat: ir.Value) -> tuple[ir.Value, tuple[int, ...]] | None:
    """(x, perm) where `flat` is transpose(x, perm) with everything behind the batch made one axis."""
    reshape = flat.producer()
    if not is_op(reshape, "Reshape", "Flatten") or reshape is None or reshape.inputs[0] is None:
        return None
    known = dims(flat)
    transpose = reshape.inputs[0].producer()
    if known is None or len(known) != 2 or known[1] is None or not is_op(transpose, "Transpose"):
        return None
    if transpose is None or only_user(reshape.inputs[0]) is not reshape or transpose.inputs[0] is None:
        return None
    x, perm = transpose.inputs[0], attribute(transpose, "perm")
    inner = dims(x)
    if perm is None or perm[0] != 0 or inner is None or None in inner[1:]:
        return None
    return (x, tuple(perm)) if math.prod(d or 0 for d in inner[1:]) == known[1] else None


def _set_rows(node: ir.Node, weight: ir.Value, data: np.ndarray) -> None:
    """The reordered weight, under its own name where this layer was its only reader."""
    graph, name = graph_of(node), weight.name or "weight"
    alone = only_user(weight) is node and weight.graph is graph
    new = initializer(graph, f"{name}_reordered", data)
    node.replace_input_with(1, new)
    if alone:
        graph.initializers.pop(name)
        weight.name = f"{name}_unordered"
        new.name = name


RULES: tuple[tuple[str, Peephole], ...] = (("Gemm", _dense), ("MatMul", _dense))
