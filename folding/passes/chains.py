"""Chains of nodes that move or relabel elements, made one.

Given:  Reshape(Reshape(x)), Transpose(Transpose(x)), Squeeze/Unsqueeze/Flatten in between, Cast(Cast(x)), ...
Result: one node, or none
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding.ir.edit import initializer, insert, replace
from folding.ir.query import array, attribute, graph_of, is_op, tensor
from folding.ir.shapes import inferred_dims, inferred_rank, inferred_shape, same_shape
from folding.passes.base import Peephole

_RELABEL = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
_EXACT_WIDENING = {  # every number of the first type is one of the second, so the detour changes nothing
    ("FLOAT16", "FLOAT"), ("FLOAT16", "DOUBLE"), ("BFLOAT16", "FLOAT"), ("FLOAT", "DOUBLE"),
    ("INT32", "INT64"), ("INT32", "DOUBLE"), ("BOOL", "FLOAT"), ("BOOL", "INT64"), ("BOOL", "INT32"),
    ("UINT8", "INT32"), ("INT8", "INT32"), ("UINT8", "FLOAT"), ("INT8", "FLOAT"), ("UINT8", "INT64"),
    ("INT8", "INT64"), ("BFLOAT16", "DOUBLE"),
}  # fmt: skip


def target_shape(value: ir.Value, source: ir.Value) -> list[int] | None:
    """A constant `shape` operand that reshapes `source` into `value`'s shape: numbers, 0 (copy), one -1."""
    wanted, have = inferred_shape(value), source.shape
    if wanted is None:
        return None
    shape: list[int] = []
    for index, dim in enumerate(wanted):
        if isinstance(dim, int):
            if dim == 0:
                return None
            shape.append(dim)
        elif have is not None and index < len(have) and dim.value is not None and have[index] == dim:
            shape.append(0)
        else:
            shape.append(-1)
    if shape.count(-1) > 1:
        return None
    if shape.count(0) == 1 and -1 not in shape:
        shape[shape.index(0)] = -1  # the usual spelling, and right at any batch size
    return shape


def _reshape_to(node: ir.Node, source: ir.Value) -> bool:
    """Replace `node` by one Reshape of `source` into the same result."""
    result = node.outputs[0]
    shape = target_shape(result, source)
    if shape is None:
        return False
    operand = initializer(graph_of(node), f"{node.outputs[0].name}_shape", np.array(shape, np.int64))
    new = insert(
        node, "Reshape", [source, operand], like=result, shape=result.shape, name=f"{result.name}_reshaped"
    )
    return replace(result, new)


def _relabel_chain(node: ir.Node) -> bool:
    """Reshape, Flatten, Squeeze, Unsqueeze after one of them: one Reshape of the first one's input."""
    middle = node.inputs[0]
    before = middle.producer() if middle is not None else None
    if middle is None or before is None or not is_op(before, *_RELABEL) or before.inputs[0] is None:
        return False
    source = before.inputs[0]
    if same_shape(source, node.outputs[0]):
        return replace(node.outputs[0], source)
    return _reshape_to(node, source)


def _static_reshape(node: ir.Node) -> bool:
    """A computed shape operand whose result is known but for one dimension becomes a constant."""
    if tensor(node.inputs[1]) is not None or node.inputs[0] is None:
        return False
    shape = target_shape(node.outputs[0], node.inputs[0])
    if shape is None or attribute(node, "allowzero", 0):
        return False
    graph = graph_of(node)
    node.replace_input_with(1, initializer(graph, f"{node.outputs[0].name}_shape", np.array(shape, np.int64)))
    return True


def _transpose_chain(node: ir.Node) -> bool:
    """Transpose(Transpose(x, p), q) = Transpose(x, p[q])."""
    middle = node.inputs[0]
    before = middle.producer() if middle is not None else None
    if before is None or not is_op(before, "Transpose") or before.inputs[0] is None:
        return False
    count = inferred_rank(before.inputs[0]) or len(attribute(node, "perm", attribute(before, "perm", [])))
    if not count:
        return False
    first = attribute(before, "perm", list(range(count))[::-1])
    second = attribute(node, "perm", list(range(count))[::-1])
    perm = [first[axis] for axis in second]
    if perm == list(range(count)):
        return replace(node.outputs[0], before.inputs[0])
    result = node.outputs[0]
    new = insert(node, "Transpose", [before.inputs[0]], {"perm": perm}, like=result, shape=result.shape,
                 name=f"{result.name}_transposed")  # fmt: skip
    return replace(result, new)


def _transpose_of_ones(node: ir.Node) -> bool:
    """A Transpose that only moves axes of length 1 moves no element: a Reshape, which costs nothing."""
    source = node.inputs[0]
    known = inferred_dims(source)
    perm = attribute(node, "perm")
    if source is None or known is None or perm is None:
        return False
    moved = [axis for axis in perm if known[axis] != 1]
    return moved == sorted(moved) and _reshape_to(node, source)


def _cast_chain(node: ir.Node) -> bool:
    """Cast(Cast(x, wider), t) = Cast(x, t) where every element survives the first."""
    middle = node.inputs[0]
    before = middle.producer() if middle is not None else None
    if middle is None or before is None or not is_op(before, "Cast") or before.inputs[0] is None:
        return False
    source, result = before.inputs[0], node.outputs[0]
    if source.dtype is None or middle.dtype is None:
        return False
    if (source.dtype.name, middle.dtype.name) not in _EXACT_WIDENING:
        return False
    if source.dtype.value == attribute(node, "to"):
        return replace(result, source)
    new = insert(node, "Cast", [source], {"to": attribute(node, "to")}, like=result, shape=result.shape,
                 name=f"{result.name}_cast")  # fmt: skip
    return replace(result, new)


def _expand_before_binary(node: ir.Node) -> bool:
    """Expand(x) op y = x op y where broadcasting gives the same shape by itself."""
    for position, value in enumerate(node.inputs):
        before = value.producer() if value is not None else None
        if value is None or before is None or not is_op(before, "Expand") or before.inputs[0] is None:
            continue
        if _broadcasts_to(before.inputs[0], node.inputs[1 - position], node.outputs[0]):
            node.replace_input_with(position, before.inputs[0])
            return True
    return False


def _broadcasts_to(a: ir.Value, b: ir.Value | None, result: ir.Value) -> bool:
    known = inferred_shape(result)
    if b is None or a.shape is None or b.shape is None or known is None:
        return False
    count = max(len(a.shape), len(b.shape))
    if count != len(known):
        return False
    wide = [[*([1] * (count - len(shape))), *shape] for shape in (a.shape, b.shape)]
    for x, y, z in zip(*wide, known, strict=True):
        if not (x == z and _named(x)) and not (y == z and _named(y)):
            return False
    return True


def _named(dim: object) -> bool:
    return isinstance(dim, int) or getattr(dim, "value", None) is not None


def _concat_chain(node: ir.Node) -> bool:
    """Concat(Concat(a, b), c) = Concat(a, b, c) on one axis, when the inner one has no other reader."""
    axis = _axis(node)
    inputs: list[ir.Value | None] = []
    flat = False
    for value in node.inputs:
        before = value.producer() if value is not None else None
        inner = before is not None and is_op(before, "Concat") and _axis(before) == axis
        alone = value is not None and len(value.uses()) == 1 and not value.is_graph_output()
        if inner and alone and before is not None and axis is not None and before.graph is node.graph:
            inputs += before.inputs
            flat = True
        else:
            inputs.append(value)
    if not flat or axis is None:
        return False
    result = node.outputs[0]
    new = insert(
        node, "Concat", inputs, {"axis": axis}, like=result, shape=result.shape, name=f"{result.name}_joined"
    )
    return replace(result, new)


def _axis(node: ir.Node) -> int | None:
    axis, count = attribute(node, "axis"), inferred_rank(node.outputs[0])
    if axis is None or (axis < 0 and count is None):
        return None
    return int(axis) if axis >= 0 else int(axis) + (count or 0)


def _where_constant(node: ir.Node) -> bool:
    """Where(all true, a, b) = a, where a already has the result's shape."""
    condition = array(node.inputs[0])
    if condition is None or condition.size == 0:
        return False
    for chosen, wanted in ((node.inputs[1], True), (node.inputs[2], False)):
        if chosen is not None and np.all(condition == wanted) and same_shape(chosen, node.outputs[0]):
            return replace(node.outputs[0], chosen)
    return False


_BINARY = ("Add", "Sub", "Mul", "Div", "Equal", "Less", "Greater", "Max", "Min", "Pow", "And", "Or")

RULES: tuple[tuple[str, Peephole], ...] = (
    ("Reshape", _static_reshape),
    *((op_type, _relabel_chain) for op_type in _RELABEL),
    ("Transpose", _transpose_chain),
    ("Cast", _cast_chain),
    *((op_type, _expand_before_binary) for op_type in _BINARY),
    ("Concat", _concat_chain),
    ("Where", _where_constant),
)

# A Reshape holds its operand's layout in place, so these come when no Transpose is left to be removed.
LATE: tuple[tuple[str, Peephole], ...] = (("Transpose", _transpose_of_ones),)
