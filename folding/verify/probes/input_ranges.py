"""What an input may hold and how large it may be, read off the nodes that consume it.

Integer inputs that index a table get the table's length, lengths get the sequence's, and dimensions that a
weight fixes (channels of a conv, columns of a matrix) are taken from that weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from folding.verify.model import Loaded

# Nodes through which an input keeps its values; the set says whether the axes stay as they are too.
SAME_VALUES = frozenset(
    ("Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Expand", "Concat", "Tile")
)
SAME_AXES = frozenset(("Identity", "Cast"))


@dataclass
class InputSpec:
    """One graph input.

    dims: ints where fixed, symbol or None where dynamic. low..high: known integer range.
    """

    name: str
    dtype: np.dtype[np.generic]
    dims: list[int | str | None] | None
    low: int | None = None
    high: int | None = None
    vocabulary: list[str] = field(default_factory=list)
    why: str = ""

    @property
    def kind(self) -> str:
        """`float`, `int`, `bool` or `string`."""
        if self.dtype.kind in "OSU":
            return "string"
        if self.dtype.name in ("int4", "uint4", "int2", "uint2"):
            return "int"
        return {"b": "bool", "i": "int", "u": "int"}.get(self.dtype.kind, "float")


def inputs_of(loaded: Loaded) -> list[InputSpec]:
    """Specification of every input that must be fed."""
    users = consumers(loaded)
    return [describe(loaded, value, users) for value in loaded.inputs]


def consumers(loaded: Loaded) -> dict[str, list[onnx.NodeProto]]:
    """Nodes of the main graph by the name that they read."""
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in loaded.proto.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    return users


def describe(loaded: Loaded, value: onnx.ValueInfoProto, users: dict[str, list[onnx.NodeProto]]) -> InputSpec:
    """Dtype, dims and range of one input."""
    tensor = value.type.tensor_type
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type or 1))
    dims = None
    if tensor.HasField("shape"):
        dims = [d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in tensor.shape.dim]
        dims = [None if d == -1 else d for d in dims]
    spec = InputSpec(value.name, dtype, dims)
    if spec.kind == "int":
        integer_range(loaded, spec, users)
    elif spec.kind == "string":
        spec.vocabulary = vocabulary(loaded)
    elif dims is not None:
        weight_dims(loaded, spec, users)
    return spec


def integer_range(loaded: Loaded, spec: InputSpec, users: dict[str, list[onnx.NodeProto]]) -> None:
    """Narrow low..high by every table that the input indexes."""
    for node, position in reached(spec.name, users, SAME_VALUES):
        length = table_length(loaded, node, position)
        if length and (spec.high is None or length - 1 < spec.high):
            spec.low, spec.high, spec.why = 0, length - 1, f"{node.op_type} {node.name or node.output[0]!r}"
    if spec.high is None and spec.dtype == np.uint8:
        spec.low, spec.high, spec.why = 0, 255, "the whole of uint8"
    elif spec.high is None and spec.dtype == np.int8:
        spec.low, spec.high, spec.why = -128, 127, "the whole of int8"


def table_length(loaded: Loaded, node: onnx.NodeProto, position: int) -> int | None:
    """Length of the axis that operand `position` of `node` indexes, where it is an index."""
    if node.op_type == "Gather" and position == 1:
        shape = stored_shape(loaded, node.input[0])
        return shape[attribute(node, "axis", 0)] if shape else None
    if node.op_type in ("GatherND", "GatherElements") and position == 1:
        shape = stored_shape(loaded, node.input[0])
        return shape[attribute(node, "axis", 0)] if shape else None
    if node.op_type == "OneHot" and position == 0:
        depth = stored_array(loaded, node.input[1])
        return int(depth.ravel()[0]) if depth is not None and depth.size else None
    return None


def weight_dims(loaded: Loaded, spec: InputSpec, users: dict[str, list[onnx.NodeProto]]) -> None:
    """Fill dynamic dims that a weight fixes: channels before a conv, columns before a matrix product."""
    dims = spec.dims or []
    order = list(range(len(dims)))
    for node, position, axes in layouts(spec.name, users, order):
        shape = stored_shape(loaded, node.input[1]) if len(node.input) > 1 else None
        if position != 0 or not shape or not axes:
            continue
        if node.op_type == "Conv" and len(shape) == len(axes):
            fill(dims, axes[1], shape[1] * attribute(node, "group", 1))
        elif node.op_type == "ConvTranspose" and len(shape) == len(axes):
            fill(dims, axes[1], shape[0])
        elif node.op_type == "MatMul" and len(shape) >= 2:
            fill(dims, axes[-1], shape[-2])
        elif node.op_type == "Gemm" and not attribute(node, "transA", 0):
            fill(dims, axes[-1], shape[1 if attribute(node, "transB", 0) else 0])
        elif node.op_type == "BatchNormalization" and len(axes) > 1:
            fill(dims, axes[1], shape[0])


def fill(dims: list[int | str | None], axis: int, size: int) -> None:
    """Set a dynamic dimension; a declared one stays."""
    if not isinstance(dims[axis], int):
        dims[axis] = size


def reached(
    name: str, users: dict[str, list[onnx.NodeProto]], through: frozenset[str]
) -> Iterator[tuple[onnx.NodeProto, int]]:
    """(node, operand position) of everything that reads `name`, also behind nodes of `through`."""
    queue, seen = [name], {name}
    while queue:
        here = queue.pop()
        for node in users.get(here, []):
            for position in (i for i, operand in enumerate(node.input) if operand == here):
                yield node, position
                follow = node.op_type in through and (position == 0 or node.op_type == "Concat")
                if follow and node.output[0] not in seen:
                    seen.add(node.output[0])
                    queue.append(node.output[0])


def layouts(
    name: str, users: dict[str, list[onnx.NodeProto]], order: list[int]
) -> Iterator[tuple[onnx.NodeProto, int, list[int]]]:
    """Like `reached`, following Transpose too: the third item maps an operand's axes to the input's."""
    queue = [(name, order)]
    seen = {name}
    elementwise = SAME_AXES | {"Mul", "Add", "Sub", "Div", "Relu", "Pad", "Clip", "Neg"}
    while queue:
        here, axes = queue.pop()
        for node in users.get(here, []):
            for position in (i for i, operand in enumerate(node.input) if operand == here):
                yield node, position, axes
                if node.output[0] in seen:
                    continue
                if node.op_type == "Transpose":
                    perm = attribute(node, "perm", list(reversed(axes)))
                    queue.append((node.output[0], [axes[p] for p in perm]))
                elif node.op_type in elementwise:
                    queue.append((node.output[0], axes))
                else:
                    continue
                seen.add(node.output[0])


def vocabulary(loaded: Loaded) -> list[str]:
    """Strings that the model knows (keys of label encoders and category mappers), or a few plain ones."""
    found: list[str] = []
    for node in loaded.proto.graph.node:
        for item in node.attribute:
            if item.name in ("keys_strings", "cats_strings", "classlabels_strings", "string_vocabulary"):
                found.extend(s.decode("utf-8", "replace") for s in item.strings)
    return list(dict.fromkeys(found))[:64] or ["", "a", "b", "hello world", "0", "42"]


def attribute(node: onnx.NodeProto, name: str, default: int | list[int]) -> Any:
    """An attribute's value, or the default."""
    for item in node.attribute:
        if item.name == name:
            return helper.get_attribute_value(item)
    return default


def stored_shape(loaded: Loaded, name: str) -> tuple[int, ...] | None:
    """Shape of an initializer, without reading it."""
    if name in loaded.weights:
        return tuple(loaded.weights[name].shape)
    for tensor in loaded.proto.graph.initializer:
        if tensor.name == name:
            return tuple(tensor.dims)
    return None


def stored_array(loaded: Loaded, name: str) -> np.ndarray | None:
    """A small constant: an initializer kept in the graph, or the output of a Constant node."""
    for tensor in loaded.proto.graph.initializer:
        if tensor.name == name:
            return np.asarray(numpy_helper.to_array(tensor))
    node = loaded.produced.get(name)
    if node is not None and node.op_type == "Constant" and node.attribute[0].name == "value":
        return np.asarray(numpy_helper.to_array(node.attribute[0].t))
    return None
