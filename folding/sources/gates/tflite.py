"""TensorFlow Lite files before LiteRT or tf2onnx sees them, and what they hold as plain records.

    bytes -> every offset inside the file -> indices, types, sizes, order and calls -> `TfliteModel`

Both readers trust the file: tf2onnx wraps negative offsets round, LiteRT allocates what shapes declare. The
records serve later steps (names, quantization, the order of operators), so the file is understood once.
"""

from __future__ import annotations

import math

import numpy as np

from folding.errors import UnsupportedModel
from folding.sources.gates import tf_ops
from folding.sources.gates.flatbuffer import Buffer, Table
from folding.sources.gates.limits import LIMITS, Limits, corrupt, refuse, shown
from folding.sources.gates.tflite_model import (
    Quantization,
    TfliteGraph,
    TfliteModel,
    TfliteOperator,
    TfliteTensor,
)
from folding.sources.gates.tflite_ops import (
    DTYPES,
    LAST_OPTIONS,
    OPERATORS,
    OPTION_SUBGRAPHS,
    OPTION_VECTORS,
    STRING,
    UNSUPPORTED,
    VAR_HANDLE_OPTIONS,
)

IDENTIFIER = b"TFL3"
CODE = "corrupt_tflite"
_PLACEHOLDER = 127  # PLACEHOLDER_FOR_GREATER_OP_CODES
_CUSTOM = 32
_FLEX = "Flex"
_DENSE_ONLY = "Export it as a dense model with plain per-tensor or per-channel quantization."


def check_tflite(data: bytes, limits: Limits = LIMITS) -> TfliteModel:
    """Read a TensorFlow Lite file. Raises CorruptModel, UnsafeModel, UnsupportedModel."""
    if data[4:8] != IDENTIFIER:
        corrupt("The file does not begin like a TensorFlow Lite model.", code=CODE)
    root = Buffer(data, "TensorFlow Lite", limits.nodes, CODE).root()
    operators = [_operator_code(table, limits) for table in root.tables(1, "operator code")]
    buffers = [_buffer(table, len(data)) for table in root.tables(4, "buffer")]
    graphs = tuple(_graph(table, operators, buffers, limits) for table in root.tables(2, "subgraph"))
    if not graphs or not graphs[0].operators:
        corrupt("The TensorFlow Lite model has no operators.", code="empty_graph")
    if len(graphs) > limits.functions:
        refuse(
            "unsafe_graph_size", f"The model has {len(graphs)} subgraphs; {limits.functions} are read.",
            limit=limits.functions, hint="Export the inference graph only.",
        )  # fmt: skip
    for graph in graphs:
        _check_order(graph)
    _check_calls(graphs, limits)
    for table in root.tables(6, "metadata"):
        table.text(0, "a metadata name", limits.name_bytes)
        if not 0 <= table.scalar(1, "I", 0, "buffer") < len(buffers):
            corrupt("Metadata refers to a buffer that is not there.", code=CODE)
    return TfliteModel(
        version=root.scalar(0, "I", 0, "version"),
        description=root.text(3, "the description", limits.name_bytes),
        graphs=graphs,
        signatures=dict(_signature(table, graphs, limits) for table in root.tables(7, "signature")),
    )


# --- parts of the file ----------------------------------------------------------------------------


def _operator_code(table: Table, limits: Limits) -> str:
    number: int = table.scalar(0, "b", 0, "code")
    if number == _PLACEHOLDER or number < 0:
        number = max(number, table.scalar(3, "i", 0, "code"))
    if number == 0:  # newer files may leave the old field out
        number = table.scalar(3, "i", 0, "code")
    if number == _CUSTOM:
        return table.text(1, "a custom operator's name", limits.name_bytes) or "CUSTOM"
    if not 0 <= number < len(OPERATORS):
        raise UnsupportedModel(
            f"The model uses built-in operator number {number}; {len(OPERATORS) - 1} is the last one known.",
            code="unsupported_op",
            hint="Export the model with an older converter, or as a SavedModel.",
            details={"ops": [str(number)]},
        )
    return OPERATORS[number]


def _buffer(table: Table, size: int) -> np.ndarray | None:
    data = table.array(0, "u1", "data")
    if data is None and table.scalar(1, "Q", 0, "offset") > 1:
        raise UnsupportedModel(
            "The model keeps weights behind the flatbuffer, which tf2onnx does not read.",
            code="unsupported_tflite_storage",
            hint="Give the SavedModel that it was made from.",
        )
    return data if data is not None and data.size else None


def _tensor(table: Table, buffers: list[np.ndarray | None], limits: Limits) -> TfliteTensor:
    name = table.text(3, "a tensor's name", limits.name_bytes)
    kind = table.scalar(1, "b", 0, "type")
    if kind in UNSUPPORTED or (kind not in DTYPES and kind != STRING):
        raise UnsupportedModel(
            f"Tensor {shown(name)!r} is of type {UNSUPPORTED.get(kind, str(kind))}, which is not read.",
            code="unsupported_tflite_storage",
            layer=shown(name),
            hint="Export the model with float, int8 or int16 tensors.",
        )
    if table.has(6):
        raise UnsupportedModel(
            f"Tensor {shown(name)!r} is stored sparse.",
            code="unsupported_tflite_storage", layer=shown(name), hint=_DENSE_ONLY,
        )  # fmt: skip
    index = table.scalar(2, "I", 0, "buffer")
    if not 0 <= index < len(buffers):
        corrupt(f"Tensor {shown(name)!r} refers to buffer {index} of {len(buffers)}.", name=name, code=CODE)
    signature = table.array(7, "<i4", "shape signature")
    stored = table.array(0, "<i4", "shape")
    shape = _shape(name, stored, limits, lowest=0)
    dims = _shape(name, signature, limits, lowest=-1) if signature is not None and signature.size else shape
    if len(dims) != len(shape):
        corrupt(f"Tensor {shown(name)!r} has two shapes of different rank.", name=name, code=CODE)
    data = buffers[index] if index else None
    if data is not None:
        _check_constant(name, kind, shape, data)
    return TfliteTensor(
        name,
        kind,
        dims,
        data,
        _quantization(table, name, dims),
        bool(table.scalar(5, "?", False, "variable")),
    )


def _shape(name: str, stored: np.ndarray | None, limits: Limits, *, lowest: int) -> tuple[int, ...]:
    dims = () if stored is None else tuple(int(dim) for dim in stored)
    if any(dim < lowest for dim in dims):
        corrupt(f"Tensor {shown(name)!r} declares a negative dimension.", name=name, code=CODE)
    elements = math.prod(max(1, dim) for dim in dims)
    if len(dims) > limits.tensor_rank or elements > limits.tensor_elements:
        refuse(
            "unsafe_dimensions",
            f"Tensor {shown(name)!r} has rank {len(dims)} and {elements} elements.",
            name=name, dims=list(dims[:8]), limit=limits.tensor_elements,
            hint="Export the model again with real dimensions.",
        )  # fmt: skip
    return dims


def _check_constant(name: str, kind: int, shape: tuple[int, ...], data: np.ndarray) -> None:
    """The bytes of a constant against its shape."""
    elements = math.prod(shape)
    if kind == STRING:
        _check_strings(name, elements, data)
        return
    if elements * DTYPES[kind].itemsize != data.size:
        corrupt(
            f"Tensor {shown(name)!r} stores {data.size} bytes for {elements} elements of {DTYPES[kind]}.",
            name=name, code=CODE,
        )  # fmt: skip


def _check_strings(name: str, elements: int, data: np.ndarray) -> None:
    """A count, that many offsets and one more, then the text: offsets rise and stay inside."""
    head = data[: data.size // 4 * 4].view("<i4") if data.size >= 8 else np.zeros(0, "<i4")
    count = int(head[0]) if head.size else -1
    if count != elements or count < 0 or head.size < count + 2:
        corrupt(
            f"Tensor {shown(name)!r} stores {count} strings for {elements} elements.", name=name, code=CODE
        )
    offsets = head[1 : count + 2].astype(np.int64)
    if (np.diff(offsets) < 0).any() or offsets[0] < 4 * (count + 2) or offsets[-1] > data.size:
        corrupt(f"The strings of tensor {shown(name)!r} lie outside it.", name=name, code=CODE)


def _quantization(table: Table, name: str, shape: tuple[int, ...]) -> Quantization | None:
    held = table.table(4, f"the quantization of {shown(name)!r}")
    if held is None:
        return None
    if held.has(5):
        raise UnsupportedModel(
            f"Tensor {shown(name)!r} has a custom or block-wise quantization.",
            code="unsupported_tflite_storage", layer=shown(name), hint=_DENSE_ONLY,
        )  # fmt: skip
    scale, zero = held.array(2, "<f4", "scale"), held.array(3, "<i8", "zero point")
    for number, what in ((0, "min"), (1, "max")):
        held.array(number, "<f4", what)
    if scale is None or scale.size == 0:
        return None
    zero = np.zeros(scale.size, np.int64) if zero is None or zero.size == 0 else zero
    axis = held.scalar(6, "i", 0, "quantized dimension")
    fits = scale.size == 1 or (0 <= axis < len(shape) and shape[axis] in (scale.size, -1))
    if not fits or zero.size not in (1, scale.size) or not (np.isfinite(scale).all() and (scale > 0).all()):
        corrupt(
            f"The quantization of tensor {shown(name)!r} has {scale.size} scales and {zero.size} zero points "
            f"along dimension {axis} of {list(shape)}, or scales that are not positive.",
            name=name, code=CODE,
        )  # fmt: skip
    return Quantization(scale, zero, axis)


def _graph(
    table: Table, operators: list[str], buffers: list[np.ndarray | None], limits: Limits
) -> TfliteGraph:
    tensors = tuple(_tensor(item, buffers, limits) for item in table.tables(0, "tensor"))
    name = table.text(4, "a subgraph's name", limits.name_bytes)
    graph = TfliteGraph(
        name=name,
        tensors=tensors,
        inputs=_indices(table, 1, len(tensors), "inputs"),
        outputs=_indices(table, 2, len(tensors), "outputs"),
        operators=tuple(_operator(item, operators, len(tensors)) for item in table.tables(3, "operator")),
    )
    for index in graph.inputs:
        fixed = math.prod(max(1, dim) for dim in tensors[index].shape)
        if fixed > limits.input_elements:
            refuse(
                "unsafe_dimensions", f"Input {shown(tensors[index].name)!r} has {fixed} elements.",
                name=tensors[index].name, limit=limits.input_elements, hint="Use smaller dimensions.",
            )  # fmt: skip
    return graph


def _indices(table: Table, number: int, count: int, what: str, lowest: int = 0) -> tuple[int, ...]:
    found = table.array(number, "<i4", what)
    indices = () if found is None else tuple(int(index) for index in found)
    if any(not lowest <= index < count for index in indices):
        corrupt(f"{table.what.capitalize()} refers to a tensor that is not there ({what}).", code=CODE)
    return indices


def _operator(table: Table, operators: list[str], tensors: int) -> TfliteOperator:
    index = table.scalar(0, "I", 0, "operator code")
    if index >= len(operators):
        corrupt(f"{table.what.capitalize()} refers to operator code {index}.", code=CODE)
    op = operators[index]
    if (table.has(9) and table.scalar(9, "Q", 0, "options") > 1) or table.has(12):
        raise UnsupportedModel(
            f"Operator {op} keeps its options in a form that tf2onnx does not read.",
            code="unsupported_op", hint="Export the model with built-in operators.", details={"ops": [op]},
        )  # fmt: skip
    custom = table.array(5, "u1", "custom options")
    if op.startswith(_FLEX):
        _check_flex(op)
    elif custom is not None and custom.size > LIMITS.attribute_items:
        refuse("unsafe_attribute", f"The options of {shown(op)} have {custom.size} bytes.", hint=_DENSE_ONLY)
    return TfliteOperator(
        op,
        _indices(table, 1, tensors, "inputs", lowest=-1),
        _indices(table, 2, tensors, "outputs"),
        _options(table, op),
    )


def _check_flex(op: str) -> None:
    """A TensorFlow operation inside: never one that reaches outside."""
    name = op.removeprefix(_FLEX)
    if tf_ops.forbidden(name):
        refuse(
            "unsafe_op", f"The model has a {shown(name)}, which reaches outside the model.",
            name=name, op=shown(name), hint="Export the model for inference without this operation.",
        )  # fmt: skip


def _options(table: Table, op: str) -> tuple[int, ...]:
    """Check the options of an operator; the subgraphs that they name."""
    kind = table.scalar(3, "B", 0, "options type")
    options = table.table(4, f"the options of {shown(op)}")
    if options is None or kind == 0:
        return ()
    if kind > LAST_OPTIONS:
        corrupt(f"Operator {shown(op)} has options of unknown kind {kind}.", code=CODE)
    for number, dtype in OPTION_VECTORS.get(kind, {}).items():
        options.array(number, dtype, "a list")
    if kind == VAR_HANDLE_OPTIONS:
        for number in (0, 1):
            options.text(number, "a variable's name", LIMITS.name_bytes)
    return tuple(options.scalar(number, "i", 0, "subgraph") for number in OPTION_SUBGRAPHS.get(kind, ()))


def _signature(
    table: Table, graphs: tuple[TfliteGraph, ...], limits: Limits
) -> tuple[str, tuple[dict[str, int], dict[str, int]]]:
    index = table.scalar(4, "I", 0, "subgraph")
    if index >= len(graphs):
        corrupt("A signature refers to a subgraph that is not there.", code=CODE)
    ports: list[dict[str, int]] = []
    for number, what in ((0, "input"), (1, "output")):
        named = {}
        for port in table.tables(number, f"signature {what}"):
            tensor = port.scalar(1, "I", 0, "tensor")
            if tensor >= len(graphs[index].tensors):
                corrupt("A signature refers to a tensor that is not there.", code=CODE)
            named[port.text(0, "a port's name", limits.name_bytes)] = tensor
        ports.append(named)
    return table.text(2, "a signature's key", limits.name_bytes), (ports[0], ports[1])


# --- the whole ------------------------------------------------------------------------------------


def _check_order(graph: TfliteGraph) -> None:
    """Operators run in their order: each reads what is there already, and nothing is written twice."""
    known = {i for i, tensor in enumerate(graph.tensors) if tensor.constant or tensor.variable}
    known.update(graph.inputs)
    written: set[int] = set()
    for operator in graph.operators:
        for index in operator.inputs:
            if index >= 0 and index not in known:
                corrupt(
                    f"Operator {shown(operator.op)} reads tensor {shown(graph.tensors[index].name)!r} before "
                    "anything computes it.",
                    name=graph.tensors[index].name, code=CODE,
                )  # fmt: skip
        for index in operator.outputs:
            tensor = graph.tensors[index]
            if index in written or tensor.constant or index in graph.inputs:
                corrupt(f"Tensor {shown(tensor.name)!r} is computed twice.", name=tensor.name, code=CODE)
        known.update(operator.outputs)
        written.update(operator.outputs)
    for index in graph.outputs:
        if index not in known:
            name = graph.tensors[index].name
            corrupt(f"Nothing computes output {shown(name)!r}.", name=name, code=CODE)


def _check_calls(graphs: tuple[TfliteGraph, ...], limits: Limits) -> None:
    """Calls lead to subgraphs that are there, in no circle, and not too deep or too many in all."""
    size: dict[int, int] = {}
    depth: dict[int, int] = {}
    called = [[index for operator in graph.operators for index in operator.calls] for graph in graphs]
    for indices in called:
        if any(not 0 < index < len(graphs) for index in indices):
            corrupt("An operator calls a subgraph that is not there, or the main one.", code=CODE)
    open_now: set[int] = set()
    stack = [(start, False) for start in range(len(graphs))]
    while stack:
        index, done = stack.pop()
        if done:
            open_now.discard(index)
            size[index] = len(graphs[index].operators) + sum(size[inner] for inner in called[index])
            depth[index] = 1 + max((depth[inner] for inner in called[index]), default=0)
            continue
        if index in size:
            continue
        if index in open_now:
            continue
        open_now.add(index)
        stack.append((index, True))
        for inner in called[index]:
            if inner in open_now:
                refuse(
                    "unsafe_function_recursion", f"Subgraph {shown(graphs[inner].name)!r} calls itself.",
                    name=graphs[inner].name, hint="Export the model without recursion.",
                )  # fmt: skip
            if inner not in size:
                stack.append((inner, False))
    if max(depth.values()) > limits.function_depth:
        refuse("unsafe_function_depth", "Subgraphs call each other too deep.", hint="Export a flatter model.")
    if size[0] > limits.expansion:
        refuse("unsafe_function_expansion", "Subgraphs expand too far.", hint="Export a flatter model.")
