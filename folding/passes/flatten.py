"""The order of axes around a flattened dense layer goes into the layer's weights.

Given:  y = Gemm | MatMul (Reshape | Flatten (Transpose(x, p)), W)      x (N, C, H, W'), flattened to (N, K)
Result: y = Gemm | MatMul (Reshape | Flatten (x), W')       rows of W in the order in which x lies in memory
Given:  y = Transpose(Reshape(Gemm | MatMul (x, W), (N, H, W', C)), p)
Result: y = Reshape(Gemm | MatMul (x, W'), (N, C, H, W'))   columns of W, and its bias, in the order of y
NHWC sources flatten channels last; ONNX convolutions deliver channels first. The first form is carried out
by `layout`, which knows what is stored in which order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from folding.ir.edit import initializer, insert, replace
from folding.ir.query import attribute, graph_of, ints, is_op, only_user, tensor
from folding.ir.shapes import inferred_dims, inferred_shape
from folding.passes.base import Peephole


def takes_any_order(flatten: ir.Node) -> bool:
    """Whether a Reshape or Flatten of everything behind the batch feeds only a dense layer that can adapt."""
    known, flat = inferred_dims(flatten.inputs[0]), inferred_dims(flatten.outputs[0])
    if known is None or flat is None or len(flat) != 2 or None in known[1:] or len(known) < 3:
        return False
    if flat[1] != math.prod(dim or 0 for dim in known[1:]) or (known[0] is None) != (flat[0] is None):
        return False
    dense = only_user(flatten.outputs[0])
    if dense is None or not is_op(dense, "Gemm", "MatMul") or dense.inputs[0] is not flatten.outputs[0]:
        return False
    weight = tensor(dense.inputs[1])
    return weight is not None and len(weight.shape) == 2 and not attribute(dense, "transA", 0)


def reorder_rows(flatten: ir.Node, known: Sequence[int | None], perm: Sequence[int]) -> None:
    """Tell the dense layer behind `flatten` that what is flattened is transpose(x, perm) from now on.

    known: dimensions of x. perm: leaves the batch in front.
    """
    dense = only_user(flatten.outputs[0])
    assert dense is not None
    axis = 1 if attribute(dense, "transB", 0) else 0
    _reorder(dense, 1, axis, _order([dim or 1 for dim in known[1:]], [place - 1 for place in perm[1:]]))


def _order(sizes: list[int], perm: list[int]) -> np.ndarray:
    """For each element of transpose(x, perm), flattened, its place in x, flattened."""
    places: np.ndarray = np.arange(math.prod(sizes)).reshape(sizes).transpose(perm).reshape(-1)
    return places


def _reorder(node: ir.Node, position: int, axis: int, order: np.ndarray) -> None:
    """Permute a constant operand, under its own name where this node was its only reader."""
    value = node.inputs[position]
    found = tensor(value)
    assert value is not None
    assert found is not None
    graph, name = graph_of(node), value.name or "weight"
    alone = only_user(value) is node and value.is_initializer() and value.graph is graph
    new = initializer(graph, f"{name}_reordered", np.take(found.numpy(), order, axis))
    node.replace_input_with(position, new)
    if alone:
        graph.initializers.pop(name)
        value.name = f"{name}_unordered"
        new.name = name


def _unflatten(node: ir.Node) -> bool:
    """Transpose of a reshaped dense layer that nobody else reads."""
    reshape = node.inputs[0].producer() if node.inputs[0] is not None else None
    perm = attribute(node, "perm")
    if reshape is None or not is_op(reshape, "Reshape") or only_user(reshape.outputs[0]) is not node:
        return False
    dense = reshape.inputs[0].producer() if reshape.inputs[0] is not None else None
    known, wanted = inferred_dims(reshape.outputs[0]), ints(reshape.inputs[1])
    if dense is None or not is_op(dense, "Gemm", "MatMul") or only_user(dense.outputs[0]) is not reshape:
        return False
    if known is None or wanted is None or perm is None or perm[0] != 0 or None in known[1:] or len(known) < 3:
        return False
    if (inferred_dims(dense.outputs[0]) or [])[1:] != [math.prod(dim or 0 for dim in known[1:])]:
        return False
    if not _columns(dense, _order([dim or 1 for dim in known[1:]], [place - 1 for place in perm[1:]])):
        return False
    result = node.outputs[0]
    shape = np.array([wanted[0], *(known[place] for place in perm[1:])], np.int64)
    operand = initializer(graph_of(node), f"{result.name}_shape", shape)
    name = f"{result.name}_shaped"
    new = insert(node, "Reshape", [reshape.inputs[0], operand], shape=inferred_shape(result), name=name)
    return replace(result, new)


def _columns(dense: ir.Node, order: np.ndarray) -> bool:
    """Permute the outputs of a dense layer. False, and nothing done, when weight or bias is no constant."""
    weight = tensor(dense.inputs[1])
    bias = dense.inputs[2] if len(dense.inputs) > 2 else None
    if weight is None or len(weight.shape) != 2 or (bias is not None and tensor(bias) is None):
        return False
    _reorder(dense, 1, 0 if attribute(dense, "transB", 0) else 1, order)
    found = tensor(bias)
    if found is not None and found.shape.numpy() and found.shape.numpy()[-1] == len(order) > 1:
        _reorder(dense, 2, len(found.shape) - 1, order)
    return True


RULES: tuple[tuple[str, Peephole], ...] = (("Transpose", _unflatten),)
