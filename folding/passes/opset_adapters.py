"""Node by node from one opset to another, by comparing the schemas; explicit where a meaning changed.

Most versions of an operator only admit more element types. A node may be relabelled when the target's
schema knows its attributes (those at their default go), takes its inputs and their types, and the meaning
is the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir

from folding.ir.edit import initializer, insert, replace
from folding.ir.query import STANDARD, attribute, graph_of, ints, scalar
from folding.ir.shapes import inferred_dims, inferred_rank

Adapter = Callable[[ir.Node, int], bool]


class NoWayError(Exception):
    """A node that does not exist in the target opset; the text says which and why."""


def relabel(node: ir.Node, current: int, target: int) -> None:
    """Adapt one node in place. Raises: NoWayError."""
    if node.domain not in STANDARD:
        return
    adapter = ADAPTERS.get(node.op_type)
    if adapter is not None and adapter(node, target):
        return
    if not onnx.defs.has(node.op_type, target, ""):
        raise NoWayError(f"opset {target} has no {node.op_type}")
    wanted = onnx.defs.get_schema(node.op_type, target, "")
    known = onnx.defs.get_schema(node.op_type, current, "")
    if wanted.since_version != known.since_version:
        _fit(node, wanted, known)


def _fit(node: ir.Node, wanted: onnx.defs.OpSchema, known: onnx.defs.OpSchema) -> None:
    for name, found in list(node.attributes.items()):
        if name not in wanted.attributes:
            default = known.attributes[name].default_value if name in known.attributes else None
            if default is None or _plain(found.value) != _plain(onnx.helper.get_attribute_value(default)):
                raise NoWayError(f"{node.op_type} has no {name!r} there")
            node.attributes.pop(name)
    while node.inputs and node.inputs[-1] is None:
        node.resize_inputs(len(node.inputs) - 1)
    if len(node.inputs) > wanted.max_input or len(node.outputs) > wanted.max_output:
        raise NoWayError(f"{node.op_type} takes {wanted.max_input} inputs there")
    for formal, value in zip(wanted.inputs, node.inputs, strict=False):
        if value is not None and value.dtype is not None and formal.types:
            kind = f"tensor({onnx.helper.tensor_dtype_to_string(value.dtype.value).split('.')[-1].lower()})"
            if kind not in formal.types and formal.types != {formal.type_str}:
                raise NoWayError(f"{node.op_type} does not take {kind} there")


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode()
    return tuple(value) if isinstance(value, list | tuple) else value


def _inputs_to_attribute(name: str, position: int, since: int) -> Adapter:
    """An operand that was an attribute before opset `since`."""

    def run(node: ir.Node, target: int) -> bool:
        operand = node.inputs[position] if len(node.inputs) > position else None
        if target < since and operand is not None:
            numbers = ints(operand)
            if numbers is None:
                raise NoWayError(f"{node.op_type} needs constant {name} there")
            node.attributes[name] = ir.AttrInt64s(name, numbers)
            node.resize_inputs(position)
            node.attributes.pop("noop_with_empty_axes", None)
        elif target >= since and name in node.attributes:
            numbers = attribute(node, name)
            node.attributes.pop(name)
            node.resize_inputs(position + 1)
            data = initializer(graph_of(node), f"{node.outputs[0].name}_{name}", np.array(numbers, np.int64))
            node.replace_input_with(position, data)
        return False

    return run


def _split(node: ir.Node, target: int) -> bool:
    """18 asks for num_outputs where sizes are not given; 13 made the sizes an operand."""
    if target >= 18 and len(node.inputs) < 2 and "split" not in node.attributes:
        node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))
    if target < 18 and "num_outputs" in node.attributes:
        known, axis = inferred_dims(node.inputs[0]), attribute(node, "axis", 0)
        size = known[axis] if known is not None else None
        count = attribute(node, "num_outputs")
        if size is None:
            raise NoWayError("Split of an unknown dimension into a number of parts")
        node.attributes.pop("num_outputs")
        chunk = -(-size // count)
        sizes = np.array([chunk] * (count - 1) + [size - chunk * (count - 1)], np.int64)
        node.resize_inputs(2)
        node.replace_input_with(1, initializer(graph_of(node), f"{node.outputs[0].name}_split", sizes))
    return _inputs_to_attribute("split", 1, 13)(node, target)


def _pad(node: ir.Node, target: int) -> bool:
    """18 added axes, 11 made pads and value operands."""
    axes = node.inputs[3] if len(node.inputs) > 3 else None
    if target < 18 and axes is not None:
        where, pads, count = ints(axes), ints(node.inputs[1]), inferred_rank(node.inputs[0])
        if where is None or pads is None or count is None:
            raise NoWayError("Pad over computed axes")
        full = np.zeros(2 * count, np.int64)
        for index, axis in enumerate(where):
            full[axis % count], full[count + axis % count] = pads[index], pads[len(where) + index]
        node.replace_input_with(1, initializer(graph_of(node), f"{node.outputs[0].name}_pads", full))
    if len(node.inputs) > 3 and target < 18:
        node.resize_inputs(3)
    if target < 11 and len(node.inputs) > 1:
        fill = scalar(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else 0.0
        if fill is None:
            raise NoWayError("Pad with a computed value")
        node.attributes["value"] = ir.AttrFloat32("value", fill)
        if len(node.inputs) > 2:
            node.resize_inputs(2)
        return _inputs_to_attribute("pads", 1, 11)(node, target)
    return False


def _clip(node: ir.Node, target: int) -> bool:
    """Bounds were attributes before opset 11."""
    if target >= 11:
        if "min" in node.attributes or "max" in node.attributes:
            raise NoWayError("Clip with attributes goes up by the version converter")
        return False
    for position, name in ((1, "min"), (2, "max")):
        if len(node.inputs) > position and node.inputs[position] is not None:
            bound = scalar(node.inputs[position])
            if bound is None:
                raise NoWayError("Clip with a computed bound")
            node.attributes[name] = ir.AttrFloat32(name, bound)
    node.resize_inputs(1)
    return False


def _softmax(node: ir.Node, target: int) -> bool:
    """Before 13 everything from `axis` on was one axis, and the default was 1."""
    count = inferred_rank(node.inputs[0])
    axis = attribute(node, "axis", -1)
    if target < 13:
        if count is None or axis % count != count - 1:
            raise NoWayError(f"{node.op_type} over another axis than the last")
        node.attributes["axis"] = ir.AttrInt64("axis", count - 1)
    return False


def _hard_swish(node: ir.Node, target: int) -> bool:
    """x * HardSigmoid(x, 1/6, 1/2) before opset 14."""
    if target >= 14:
        return False
    x, result = node.inputs[0], node.outputs[0]
    gate = insert(node, "HardSigmoid", [x], {"alpha": 1 / 6, "beta": 0.5}, shape=result.shape)
    product = insert(node, "Mul", [x, gate], like=result, shape=result.shape, name=f"{result.name}_product")
    replace(result, product)
    return True


def _batch_norm(node: ir.Node, target: int) -> bool:
    """14 replaced extra outputs by training_mode; a norm with one output in inference mode is the same."""
    if target < 7 or attribute(node, "spatial", 1) == 0:
        raise NoWayError("BatchNormalization of opset 6 and before")
    if attribute(node, "training_mode", 0) or len(node.outputs) > 1:
        raise NoWayError("BatchNormalization in training mode")
    for name in ("training_mode", "spatial"):
        node.attributes.pop(name, None)
    return False


def _changed(*between: int) -> Adapter:
    """An operator whose meaning changed with these opsets: only the version converter may cross them."""

    def run(node: ir.Node, target: int) -> bool:
        current = graph_of(node).opset_imports[""]
        low, high = sorted((current, target))
        if any(low < version <= high for version in between):
            raise NoWayError(f"{node.op_type} changed its meaning in between")
        return False

    return run


_REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
               "ReduceLogSumExp", "ReduceSumSquare")  # fmt: skip
ADAPTERS: dict[str, Adapter] = {
    **dict.fromkeys(_REDUCTIONS, _inputs_to_attribute("axes", 1, 18)),
    "ReduceSum": _inputs_to_attribute("axes", 1, 13),
    "Squeeze": _inputs_to_attribute("axes", 1, 13),
    "Unsqueeze": _inputs_to_attribute("axes", 1, 13),
    "Split": _split,
    "Pad": _pad,
    "Clip": _clip,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "HardSwish": _hard_swish,
    "Hardmax": _changed(13),
    "Upsample": _changed(9, 10),
    "Resize": _changed(11),
    "Slice": _changed(10),
    "Dropout": _changed(12),
    "BatchNormalization": _batch_norm,
    "TopK": _changed(10, 11),
    "OneHot": _changed(11),
    "Cast": _changed(6),
    "Scan": _changed(9),
    "GroupNormalization": _changed(21),
}
