"""What an input may hold and how large it may be, read off the nodes that consume it.

Integer inputs get the values that their readers accept (`arguments`), and dimensions that a weight fixes
(channels of a conv, columns of a matrix) are taken from that weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from folding.verify.model import Loaded, variant
from folding.verify.probes.arguments import ARGUMENTS, OF_ANY_TYPE, proposals
from folding.verify.probes.operator_reading import Proposal, Reading, Shape

# Nodes through which an input keeps its values; the set says whether the axes stay as they are too.
SAME_VALUES = frozenset(
    (
        "Identity",
        "Cast",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Slice",
        "Expand",
        "Concat",
        "Tile",
        "CastLike",
        "Where",
        "Transpose",
        "Abs",
    )
)
SAME_AXES = frozenset(("Identity", "Cast"))
SMALL = {
    "uint8": (0, 255), "int8": (-128, 127), "uint4": (0, 15), "int4": (-8, 7),
    "uint2": (0, 3), "int2": (-2, 1),
}  # fmt: skip
# Ranges to try for whole numbers of unknown meaning.
GENERIC = ((0, 9), (0, 3), (0, 1), (1, 1), (0, 0), (1, 2), (2, 2), (3, 3), (4, 4))


@dataclass
class InputSpec:
    """One graph input.

    dims: ints where fixed, symbol or None where dynamic. low..high: the range to draw from, None for the
    whole of what its kind of probe draws. fixed: the very values. readers: the nodes that take it as an
    argument, with the operand's position. sequence: a sequence of such tensors.
    """

    name: str
    dtype: np.dtype[np.generic]
    dims: list[int | str | None] | None
    low: float | None = None
    high: float | None = None
    vocabulary: list[str] = field(default_factory=list)
    why: str = ""
    fixed: np.ndarray | None = None
    readers: list[tuple[onnx.NodeProto, int]] = field(default_factory=list)
    sequence: bool = False

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
    """Dtype, dims and readers of one input."""
    kind = value.type.optional_type.elem_type if value.type.HasField("optional_type") else value.type
    sequence = kind.HasField("sequence_type")
    tensor = (kind.sequence_type.elem_type if sequence else kind).tensor_type
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type or 1))
    dims = None
    if tensor.HasField("shape"):
        dims = [d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in tensor.shape.dim]
        dims = [None if d == -1 else d for d in dims]
    spec = InputSpec(value.name, dtype, dims, sequence=sequence)
    if spec.kind in ("int", "float"):
        read = dict.fromkeys((id(node), at) for node, at in reached(spec.name, users, SAME_VALUES))
        nodes = {id(node): node for node in loaded.proto.graph.node}
        keys = [(nodes[number], at) for number, at in read]
        spec.readers = [
            (node, at)
            for node, at in keys
            if (node.op_type, at) in (ARGUMENTS if spec.kind == "int" else OF_ANY_TYPE)
        ]
    if spec.kind == "string":
        spec.vocabulary = vocabulary(loaded)
    elif spec.kind == "float" and dims is not None:
        weight_dims(loaded, spec, users)
    if spec.readers:
        found = alternatives(loaded, spec, tuple(d if isinstance(d, int) else 0 for d in dims or ()), None)
        accept(spec, found[0])
    elif spec.kind == "int":
        whole_of_type(spec)
    return spec


def whole_of_type(spec: InputSpec) -> None:
    """Draw 8-bit integers from all that the type holds."""
    limits = SMALL.get(spec.dtype.name)
    if limits is not None:
        spec.low, spec.high = limits
        spec.why = f"the whole of {spec.dtype}"


def alternatives(
    loaded: Loaded, spec: InputSpec, own: Shape, shapes: dict[str, Shape] | None
) -> list[Proposal]:
    """What to try for an input, best first; never empty.

    own: its shape. shapes: of all values, None to infer them from what the file declares.
    """
    shapes = inferred(loaded, {}) if shapes is None and spec.readers else shapes or {}
    readings = [
        Reading(node, at, own, shapes, lambda name: stored_array(loaded, name)) for node, at in spec.readers
    ]
    found = proposals(readings, integer=spec.kind == "int")
    kept = Proposal(spec.low, spec.high) if spec.low is not None and spec.high is not None else None
    if not found and kept is not None:
        found = [kept]
    if spec.kind == "int" and not {node.op_type for node, _ in spec.readers} & {"STFT", "DFT"}:
        found = [*found, *(Proposal(low, high) for low, high in GENERIC)]
    return found or [Proposal(0, 1)]


def accept(spec: InputSpec, proposal: Proposal) -> None:
    """Let the input hold what is proposed."""
    spec.fixed, spec.why = proposal.fixed, proposal.why
    spec.low, spec.high = (None, None) if proposal.fixed is not None else (proposal.low, proposal.high)


def inferred(loaded: Loaded, feeds: dict[str, Shape]) -> dict[str, Shape]:
    """Shapes of values, 0 for what is not known; `feeds` are the inputs' own."""
    model = variant(loaded, (), {})
    for value in model.graph.input:
        if value.name in feeds and value.type.HasField("tensor_type"):
            kind = value.type.tensor_type.elem_type
            value.CopyFrom(helper.make_tensor_value_info(value.name, kind, feeds[value.name]))
    try:
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # noqa: BLE001 - then what the file says is all there is
        graph = model.graph
    return {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.HasField("tensor_type")
    } | {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}


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
                copied = position == 0 if node.op_type != "Where" else position > 0
                follow = node.op_type in through and (copied or node.op_type == "Concat")
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
