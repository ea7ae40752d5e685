"""Operators that do not care in which order the axes lie, and how each is told about a new order.

A carried value shares the operator's layout. `move` rewrites attributes and constant operands for values
that are stored as transpose(x, perm) from now on. An operator that is not here wants its operands unmoved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from folding.ir.edit import initializer, insert
from folding.ir.query import array, attribute, graph_of, ints, is_op, only_user, opset, tensor
from folding.ir.shapes import INFERRED, inferred_dims, inferred_rank
from folding.passes.flatten import reorder_rows, takes_any_order
from folding.passes.layout.permutation import Perm, inverse

_PINNED = "bnfold.layout_pinned"

UNARY = frozenset({
    "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Elu", "Selu", "Celu", "HardSigmoid", "HardSwish", "Softplus",
    "Softsign", "Erf", "Exp", "Log", "Abs", "Neg", "Sqrt", "Reciprocal", "Ceil", "Floor", "Round", "Sign",
    "Not", "Cast", "Identity", "Dropout", "Clip", "ThresholdedRelu", "Gelu", "Mish", "Swish", "IsNaN",
})  # fmt: skip
NARY = frozenset({
    "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "Where", "PRelu", "And", "Or", "Equal",
    "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Mod",
})  # fmt: skip
REDUCTIONS = frozenset({
    "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
    "ReduceSumSquare", "ReduceLogSumExp", "ReduceLogSum",
})  # fmt: skip


@dataclass(frozen=True)
class Permutable:
    """One node that may be moved: the values that share its layout, and the rank of them."""

    node: ir.Node
    rank: int
    inputs: tuple[int, ...]  # positions of carried inputs
    outputs: tuple[int, ...]  # positions of carried outputs


def permutable(node: ir.Node, constants: Callable[[ir.Value], bool]) -> Permutable | None:
    """How the node takes part, or None. `constants` tells values that depend on initializers alone."""
    if node.domain not in ("", "ai.onnx") or not node.outputs or node.meta.get(_PINNED):
        return None
    count = inferred_rank(node.outputs[0])
    if count is None or count < 3 or not _axes_exist(node, count):
        return None
    op_type = node.op_type
    if op_type in NARY or op_type == "Concat":
        return _nary(node, count, constants)
    if op_type == "Split" or op_type in UNARY or _CHECKS.get(op_type, _never)(node):
        if any(inferred_rank(value) != count for value in (node.inputs[0], *_read(node))):
            return None
        return Permutable(node, count, (0,), tuple(range(len(node.outputs))))
    return None


def _axes_exist(node: ir.Node, count: int) -> bool:
    """Whether the axes that the node names are axes of its value: a broken model may name any number."""
    position = {"Pad": 3, "Slice": 3, **dict.fromkeys(REDUCTIONS, 1)}.get(node.op_type)
    given = position is not None and len(node.inputs) > position and node.inputs[position] is not None
    named = (ints(node.inputs[position]) or []) if given and position is not None else []
    named = [*named, *(attribute(node, "axes", None) or []), attribute(node, "axis", -1)]
    return all(-count <= axis < count for axis in named)


def _read(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.outputs if value.uses() or value.is_graph_output()]


def _nary(node: ir.Node, count: int, constants: Callable[[ir.Value], bool]) -> Permutable | None:
    """Full-rank operands are carried; constants adapt; a run-time operand of lower rank forbids it."""
    carried = []
    for position, value in enumerate(node.inputs):
        if value is None:
            return None
        wide = inferred_rank(value)
        if constants(value):
            if wide is None or wide > count or (wide != count and node.op_type == "Concat"):
                return None
            if tensor(value) is None and value.shape is not None and not value.shape.is_static():
                return None
        elif wide == count:
            carried.append(position)
        elif wide != 0:
            return None
    return Permutable(node, count, tuple(carried), (0,)) if carried else None


def _never(node: ir.Node) -> bool:
    return False


def _softmax(node: ir.Node) -> bool:
    return opset(node) >= 13


def _pad(node: ir.Node) -> bool:
    if "pads" in node.attributes:
        return True
    axes = node.inputs[3] if len(node.inputs) > 3 else None
    return ints(node.inputs[1]) is not None and (axes is None or ints(axes) is not None)


def _slice(node: ir.Node) -> bool:
    if "starts" in node.attributes:
        return True
    given = node.inputs[3] if len(node.inputs) > 3 else None
    return ints(node.inputs[1]) is not None and (given is None or ints(given) is not None)


def _reduction(node: ir.Node) -> bool:
    if not attribute(node, "keepdims", 1):
        return False
    return "axes" in node.attributes or (len(node.inputs) > 1 and bool(ints(node.inputs[1])))


def _resize(node: ir.Node) -> bool:
    if len(node.inputs) < 3 or "axes" in node.attributes:
        return False
    roi = node.inputs[1]
    if roi is not None and (tensor(roi) is None or tensor(roi).size):  # type: ignore[union-attr]
        return False
    return all(value is None or tensor(value) is not None for value in node.inputs[2:])


def pin(part: Permutable, perm: Perm) -> bool:
    """Leave a node as it is for good where runtimes have no kernel for the new order. True when so.

    onnxruntime's CPU provider interpolates over the last two of four axes, or those between the first and the
    last; of five axes, over the last three (cubic: of two, or the last two of four).
    """
    node = part.node
    mode = attribute(node, "mode", "nearest")
    if node.op_type != "Resize" or mode == "nearest":
        return False
    moved = {perm.index(axis) for axis in _resized(node, part.rank)}
    allowed = {4: ({2, 3}, {1, 2}), 5: ({2, 3, 4},)}.get(part.rank, ())
    if mode == "cubic" or attribute(node, "antialias", 0):
        allowed = ({2, 3},) if part.rank == 4 else ()
    if (part.rank == 3 and mode == "linear") or any(moved <= axes for axes in allowed):
        return False
    node.meta[_PINNED] = True
    return True


def _resized(node: ir.Node, count: int) -> set[int]:
    """The axes that a Resize may change; all where that is not told."""
    scales, sizes = (array(node.inputs[i]) if i < len(node.inputs) else None for i in (2, 3))
    if scales is not None and scales.size == count:
        return {axis for axis in range(count) if scales[axis] != 1}
    known = inferred_dims(node.inputs[0])
    if sizes is not None and sizes.size == count and known is not None:
        return {axis for axis in range(count) if sizes[axis] != known[axis]}
    return set(range(count))


def _tile(node: ir.Node) -> bool:
    return ints(node.inputs[1]) is not None


def _quantize(node: ir.Node) -> bool:
    scale = node.inputs[1]
    return "block_size" not in node.attributes and inferred_rank(scale) in (0, 1)


_CHECKS: dict[str, Callable[[ir.Node], bool]] = {
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Pad": _pad,
    "Slice": _slice,
    "Resize": _resize,
    "Tile": _tile,
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _quantize,
    **dict.fromkeys(REDUCTIONS, _reduction),
}


def move(part: Permutable, perm: Perm) -> None:
    """Rewrite the node for values stored as transpose(x, perm). Shapes of carried outputs move too."""
    node = part.node
    if node.op_type in NARY or node.op_type == "Concat":
        for position, value in enumerate(node.inputs):
            if position not in part.inputs and value is not None:
                node.replace_input_with(position, _moved_operand(node, value, part.rank, perm))
    handler = _MOVERS.get(node.op_type)
    if handler is not None:
        handler(node, perm)
    for position in part.outputs:
        value = node.outputs[position]
        if value.shape is not None:
            value.shape = ir.Shape([value.shape[axis] for axis in perm])
        if INFERRED in value.meta:
            value.meta[INFERRED] = ir.Shape([value.meta[INFERRED][axis] for axis in perm])


def _moved_operand(node: ir.Node, value: ir.Value, count: int, perm: Perm) -> ir.Value:
    """A constant operand in the new order, broadcast rank included; its name goes along if it can."""
    found = tensor(value)
    if (found is not None and found.size == 1 and node.op_type != "Concat") or inferred_rank(value) == 0:
        return value
    assert value.shape is not None
    wide = [*([1] * (count - len(value.shape))), *value.shape.numpy()]
    after = [wide[axis] for axis in perm]
    graph = graph_of(node)
    if found is not None:
        data = np.transpose(found.numpy().reshape(wide), perm)
        return _renamed(graph, node, value, np.ascontiguousarray(data))
    shape = initializer(graph, f"{value.name}_shape", np.array(after, np.int64))
    if sum(dim != 1 for dim in wide) <= 1:
        return insert(node, "Reshape", [value, shape], shape=after)
    full = initializer(graph, f"{value.name}_shape", np.array(wide, np.int64))
    aligned = insert(node, "Reshape", [value, full], shape=wide)
    return insert(node, "Transpose", [aligned], {"perm": perm}, shape=after)


def _renamed(graph: ir.Graph, node: ir.Node, value: ir.Value, data: np.ndarray) -> ir.Value:
    name = value.name or "constant"
    alone = only_user(value) is node and value.is_initializer() and value.graph is graph
    new = initializer(graph, f"{name}__moved", data)
    if alone:
        graph.initializers.pop(name)
        value.name = f"{name}__unmoved"
        new.name = name
    return new


def _axis_attribute(node: ir.Node, perm: Perm) -> None:
    default = {"Split": 0, "QuantizeLinear": 1, "DequantizeLinear": 1}.get(node.op_type, -1)
    axis = attribute(node, "axis", default)
    if node.op_type in ("QuantizeLinear", "DequantizeLinear") and inferred_rank(node.inputs[1]) == 0:
        return
    node.attributes["axis"] = ir.AttrInt64("axis", inverse(perm)[axis])


def _axes(node: ir.Node, perm: Perm) -> None:
    where = inverse(perm)
    if "axes" in node.attributes:
        node.attributes["axes"] = ir.AttrInt64s("axes", [where[axis] for axis in attribute(node, "axes")])
    else:
        axes = [where[axis] for axis in ints(node.inputs[1]) or []]
        _operand(node, 1, "axes", np.array(axes, np.int64))


def _operand(node: ir.Node, position: int, role: str, data: np.ndarray) -> None:
    name = f"{node.outputs[0].name}_{role}"
    node.replace_input_with(position, initializer(graph_of(node), name, data))


def _move_pads(node: ir.Node, perm: Perm) -> None:
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        where = inverse(perm)
        _operand(node, 3, "axes", np.array([where[axis] for axis in ints(node.inputs[3]) or []], np.int64))
        return
    pads = attribute(node, "pads") or ints(node.inputs[1]) or []
    half = len(pads) // 2
    moved = [pads[axis] for axis in perm] + [pads[half + axis] for axis in perm]
    if "pads" in node.attributes:
        node.attributes["pads"] = ir.AttrInt64s("pads", moved)
    else:
        _operand(node, 1, "pads", np.array(moved, np.int64))


def _move_slice(node: ir.Node, perm: Perm) -> None:
    where = inverse(perm)
    if "starts" in node.attributes:
        axes = attribute(node, "axes") or list(range(len(attribute(node, "starts"))))
        node.attributes["axes"] = ir.AttrInt64s("axes", [where[axis] for axis in axes])
        return
    given = ints(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] is not None else None
    axes = given if given is not None else list(range(len(ints(node.inputs[1]) or [])))
    starts = array(node.inputs[1])
    assert starts is not None
    if len(node.inputs) < 4:
        node.resize_inputs(4)
    _operand(node, 3, "axes", np.array([where[axis] for axis in axes], starts.dtype))


def _per_axis(first: int) -> Callable[[ir.Node, Perm], None]:
    """Operands from position `first` on hold one number per axis."""

    def run(node: ir.Node, perm: Perm) -> None:
        for position in range(first, len(node.inputs)):
            data = array(node.inputs[position])
            if data is not None and data.size == len(perm):
                _operand(node, position, "per_axis", data[list(perm)])

    return run


_MOVERS: dict[str, Callable[[ir.Node, Perm], None]] = {
    "Concat": _axis_attribute,
    "Split": _axis_attribute,
    "Softmax": _axis_attribute,
    "LogSoftmax": _axis_attribute,
    "QuantizeLinear": _axis_attribute,
    "DequantizeLinear": _axis_attribute,
    "Pad": _move_pads,
    "Slice": _move_slice,
    "Resize": _per_axis(2),
    "Tile": _per_axis(1),
    **dict.fromkeys(REDUCTIONS, _axes),
}


def relaxed(node: ir.Node, perms: Sequence[Perm]) -> bool:
    """Whether a consumer of input 0 gives the same result for each stored order (see `relax`)."""
    return all(_relaxed(node, perm) for perm in perms)


def _relaxed(node: ir.Node, perm: Perm) -> bool:
    source = node.inputs[0]
    if source is None or source.shape is None:
        return False
    order = [axis for axis in perm if source.shape[axis] != 1]
    if is_op(node, "Reshape"):
        shape = ints(node.inputs[1]) if len(node.inputs) > 1 else None
        copies = [index for index, dim in enumerate(shape or []) if dim == 0]
        fixed = all(index < len(perm) and perm[index] == index for index in copies)
        if shape is None or not fixed:
            return False
        return order == sorted(order) or (perm[0] == 0 and takes_any_order(node))
    if is_op(node, "Flatten"):
        if attribute(node, "axis", 1) != 1 or perm[0] != 0:
            return False
        return order == sorted(order) or takes_any_order(node)
    if is_op(node, *REDUCTIONS) and not attribute(node, "keepdims", 1):
        axes = attribute(node, "axes") or (ints(node.inputs[1]) if len(node.inputs) > 1 else None)
        return bool(axes) and _remaining(perm, axes or [])
    if is_op(node, "Squeeze"):
        axes = attribute(node, "axes") or (ints(node.inputs[1]) if len(node.inputs) > 1 else None)
        return bool(axes) and _remaining(perm, axes or [])
    return False


def _remaining(perm: Perm, axes: list[int]) -> bool:
    gone = {axis % len(perm) for axis in axes}
    left = [axis for axis in perm if axis not in gone]
    return left == sorted(left)


def relax(node: ir.Node, perm: Perm, known: Sequence[int | None]) -> None:
    """Tell a relaxed consumer that its input 0, of dimensions `known`, is stored as transpose(x, perm)."""
    if is_op(node, "Reshape", "Flatten"):
        order = [axis for axis in perm if known[axis] != 1]
        if order != sorted(order):
            reorder_rows(node, known, perm)
    if is_op(node, "Squeeze", *REDUCTIONS):
        where = inverse(perm)
        axes = [where[axis] for axis in attribute(node, "axes") or ints(node.inputs[1]) or []]
        axes.sort()
        if "axes" in node.attributes:
            node.attributes["axes"] = ir.AttrInt64s("axes", axes)
        else:
            _operand(node, 1, "axes", np.array(axes, np.int64))
