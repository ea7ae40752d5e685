"""Shape arithmetic that is known in part: what matters of it becomes constant.

Given:  s = Shape(x), x (N, 4, 4, 6);  p = ReduceProd(Slice(s, 1:));  y = Reshape(x, Concat(-1, p))
Result: y = Reshape(x, [-1, 96])
Given:  y = Reshape(x, Concat(Slice(s, 0:1), 4, -1))       Result: y = Reshape(x, [0, 4, -1])
An element is a number, or (value, axis): a dimension that is only known at run time, or None.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from folding.ir.edit import initializer, open_graphs
from folding.ir.query import attribute, axes_of, graph_of, ints, is_op, tensor
from folding.ir.shapes import inferred_dims, inferred_rank
from folding.passes.constants import become_initializer

Element = int | tuple[ir.Value, int] | None
Elements = list[Element]
_LONGEST = 64
_INTEGERS = (ir.DataType.INT64, ir.DataType.INT32)


def fold_shape_values(model: ir.Model) -> bool:
    """Replace shape arithmetic that is all numbers, and Reshape operands with at most one unknown."""
    changed = False
    for graph in open_graphs(model):
        known: dict[ir.Value, Elements] = {}
        for node in graph:
            if node.domain not in ("", "ai.onnx"):
                continue
            if node.op_type == "Reshape":
                changed |= _static_operand(node, known)
            elif node.op_type in _RULES and len(node.outputs) == 1:
                elements = _RULES[node.op_type](node, known)
                if elements is not None and len(elements) <= _LONGEST:
                    known[node.outputs[0]] = elements
                    changed |= _replace_known(node, elements)
    return changed


def _elements(value: ir.Value | None, known: dict[ir.Value, Elements]) -> Elements | None:
    if value is None:
        return None
    if value in known:
        return known[value]
    found = tensor(value)
    if found is None or found.dtype not in _INTEGERS or found.size > _LONGEST or len(found.shape) > 1:
        return None
    return [int(number) for number in found.numpy().reshape(-1)]


def _replace_known(node: ir.Node, elements: Elements) -> bool:
    """All numbers: an initializer of the output's type and rank."""
    value = node.outputs[0]
    count = inferred_rank(value)
    if any(not isinstance(e, int) for e in elements) or value.dtype not in _INTEGERS or count is None:
        return False
    data = np.array(elements, value.dtype.numpy())
    if count == 0 and data.size == 1:
        return become_initializer(value, ir.Tensor(data.reshape(())))
    return count == 1 and become_initializer(value, ir.Tensor(data))


def _static_operand(node: ir.Node, known: dict[ir.Value, Elements]) -> bool:
    """Numbers stay, a dimension of the input at its own place is copied (0), one other may be -1."""
    if len(node.inputs) < 2 or tensor(node.inputs[1]) is not None or attribute(node, "allowzero", 0):
        return False
    elements = known.get(node.inputs[1]) if node.inputs[1] is not None else None
    if elements is None:
        return False
    source = node.inputs[0]
    shape = [
        element if isinstance(element, int) else 0 if element == (source, position) else None
        for position, element in enumerate(elements)
    ]
    if shape.count(None) == 1 and -1 not in shape:
        shape[shape.index(None)] = -1
    elif None not in shape and shape.count(0) == 1 and -1 not in shape:
        shape[shape.index(0)] = -1
    if None in shape or any(e == 0 for e in elements):
        return False
    data = np.array(shape, np.int64)
    node.replace_input_with(1, initializer(graph_of(node), f"{node.outputs[0].name}_shape", data))
    if node.outputs[0].shape is None:
        node.outputs[0].shape = ir.Shape([None] * len(shape))
    return True


def _shape(node: ir.Node, known: dict[ir.Value, Elements]) -> Elements | None:
    source, numbers = node.inputs[0], inferred_dims(node.inputs[0])
    if source is None or numbers is None:
        return None
    all_dims: Elements = [(source, axis) if dim is None else dim for axis, dim in enumerate(numbers)]
    return all_dims[slice(attribute(node, "start", 0), attribute(node, "end"))]


def _same(node: ir.Node, known: dict[ir.Value, Elements]) -> Elements | None:
    """Operators that keep the elements: casts between integers, (un)squeezing one number or a vector."""
    if is_op(node, "Cast") and attribute(node, "to") not in [dtype.value for dtype in _INTEGERS]:
        return None
    if is_op(node, "Reshape", "Unsqueeze") and inferred_rank(node.outputs[0]) != 1:
        return None
    return _elements(node.inputs[0], known)


def _slice(node: ir.Node, known: dict[ir.Value, Elements]) -> Elements | None:
    elements = _elements(node.inputs[0], known)
    if elements is None or len(node.inputs) < 3:
        return None
    starts, ends = ints(node.inputs[1]), ints(node.inputs[2])
    steps = ints(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] is not None else [1]
    if not starts or not ends or not steps or len(starts) != 1:
        return None
    end: int | None = ends[0]
    if steps[0] < 0 and ends[0] < -len(elements):
        end = None
    return elements[slice(starts[0], end, steps[0])]


def _gather(node: ir.Node, known: dict[ir.Value, Elements]) -> Elements | None:
    elements, where = _elements(node.inputs[0], known), ints(node.inputs[1])
    wide = inferred_rank(node.inputs[1])
    if elements is None or where is None or wide is None or wide > 1 or attribute(node, "axis", 0):
        return None
    if any(not -len(elements) <= index < len(elements) for index in where):
        return None
    return [elements[index] for index in where]


def _concat(node: ir.Node, known: dict[ir.Value, Elements]) -> Elements | None:
    if inferred_rank(node.outputs[0]) not in (1, None):
        return None
    joined: Elements = []
    for value in node.inputs:
        part = _elements(value, known)
        if part is None or inferred_rank(value) != 1:
            return None
        joined += part
    return joined


def _product(node: ir.Node, known: dict[ir.Value, Elements]) -> Elements | None:
    """ReduceProd of a vector."""
    elements = _elements(node.inputs[0], known)
    axes = axes_of(node)
    if elements is None or axes not in (None, [], [0], [-1]):
        return None
    numbers = [e for e in elements if isinstance(e, int)]
    if len(numbers) == len(elements):
        return [math.prod(numbers)]
    rest = [e for e in elements if not isinstance(e, int)]
    return [rest[0]] if len(rest) == 1 and math.prod(numbers) == 1 else [None]


def _arithmetic(function: Callable[[int, int], int], neutral: int) -> Callable[..., Elements | None]:
    def run(node: ir.Node, known: dict[ir.Value, Elements]) -> Elements | None:
        a, b = (_elements(value, known) for value in node.inputs)
        if a is None or b is None:
            return None
        size = max(len(a), len(b))
        if {len(a), len(b)} - {1, size}:
            return None
        pairs = zip(a * (size // len(a)), b * (size // len(b)), strict=True)
        return [_combine(function, neutral, x, y) for x, y in pairs]

    return run


def _combine(function: Callable[[int, int], int], neutral: int, x: Element, y: Element) -> Element:
    if isinstance(x, int) and isinstance(y, int):
        return function(x, y)
    return x if y == neutral else None


_RULES: dict[str, Callable[..., Elements | None]] = {
    "Shape": _shape,
    "Cast": _same,
    "Identity": _same,
    "Squeeze": _same,
    "Unsqueeze": _same,
    "Slice": _slice,
    "Gather": _gather,
    "Concat": _concat,
    "ReduceProd": _product,
    "Mul": _arithmetic(lambda x, y: x * y, 1),
    "Add": _arithmetic(lambda x, y: x + y, 0),
    "Sub": _arithmetic(lambda x, y: x - y, 0),
    "Div": _arithmetic(lambda x, y: int(x / y) if y else 0, 1),
}
