"""Twins of a TensorFlow Lite file: the same model with other names, or with its weights as floats.

`with_unique_names`: tf2onnx and reports know tensors by name; files may repeat a name or leave it out.
`with_float_weights`: the weights of a dynamic-range model, dequantized. LiteRT then computes the same
function as the file without rounding the activations of each run to 8 bits, so float tolerances hold again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from folding.sources.gates.tflite import IDENTIFIER
from folding.sources.gates.tflite_model import TfliteGraph, TfliteModel, TfliteOperator, TfliteTensor
from folding.sources.gates.tflite_ops import DTYPES
from folding.sources.tflite.runtime import schema

FLOAT32 = 0
INTEGERS = frozenset({3, 7, 9})  # UINT8, INT16, INT8
_DERIVED = ("_dequant", "_prequant", "_quantize")  # names that tf2onnx makes of others


def with_unique_names(data: bytes, model: TfliteModel) -> bytes | None:
    """Return the file with a name of its own for each tensor, or None where that is so already."""
    wanted = unique_names(model)
    if all(
        [tensor.name for tensor in graph.tensors] == names
        for graph, names in zip(model.graphs, wanted, strict=True)
    ):
        return None
    held = _unpack(data)
    for graph, names in zip(held.subgraphs, wanted, strict=True):
        for tensor, name in zip(graph.tensors, names, strict=True):
            tensor.name = name
    return _pack(held)


def unique_names(model: TfliteModel) -> list[list[str]]:
    """Return a name for each tensor: its own where nothing else claims it, else one with its number."""
    taken: set[str] = set()
    found = []
    for number, graph in enumerate(model.graphs):
        names = []
        for index, tensor in enumerate(graph.tensors):
            name = tensor.name
            if not name or name in taken or name.endswith(_DERIVED):
                name = f"{name or 'tensor'}_{number}_{index}"
            while name in taken:
                name += "_"
            taken.add(name)
            names.append(name)
        found.append(names)
    return found


def dynamic_range_weights(graph: TfliteGraph, operator: TfliteOperator) -> list[int]:
    """Positions of an operator's inputs that are stored as integers, while it computes floats."""
    if operator.op in ("DEQUANTIZE", "QUANTIZE") or not operator.outputs:
        return []
    if graph.tensors[operator.outputs[0]].type != FLOAT32:
        return []
    return [
        place
        for place, index in enumerate(operator.inputs)
        if index >= 0 and _is_stored_integer(graph.tensors[index])
    ]


def _is_stored_integer(tensor: TfliteTensor) -> bool:
    return tensor.constant and tensor.type in INTEGERS and tensor.quantization is not None


def with_float_weights(data: bytes, model: TfliteModel) -> bytes | None:
    """Return the file with the weights of dynamic-range operators as floats; None where there are none."""
    if not any(dynamic_range_weights(g, operator) for g in model.graphs for operator in g.operators):
        return None
    held, classes = _unpack(data), schema()
    for graph, packed in zip(model.graphs, held.subgraphs, strict=True):
        made: dict[int, int] = {}
        for operator, target in zip(graph.operators, packed.operators, strict=True):
            for place in dynamic_range_weights(graph, operator):
                index = operator.inputs[place]
                if index not in made:
                    made[index] = _add_constant(classes, held, packed, graph.tensors[index])
                target.inputs[place] = made[index]
    return _pack(held)


def _add_constant(classes: Any, held: Any, graph: Any, tensor: TfliteTensor) -> int:
    """Add a float constant with the real values of `tensor`. Returns its index in the subgraph."""
    buffer = classes.BufferT()
    buffer.data = dequantized(tensor).view(np.uint8).reshape(-1)
    held.buffers.append(buffer)
    new = classes.TensorT()
    new.shape = np.array(tensor.shape, np.int32)
    new.type = FLOAT32
    new.buffer = len(held.buffers) - 1
    new.name = f"{tensor.name}_float"
    graph.tensors.append(new)
    return len(graph.tensors) - 1


def dequantized(tensor: TfliteTensor) -> np.ndarray:
    """Return the real values of a stored integer tensor, float32."""
    assert tensor.data is not None
    assert tensor.quantization is not None
    stored = tensor.data.view(DTYPES[tensor.type]).reshape(tensor.shape).astype(np.float32)
    scale, zero = tensor.quantization.scale, tensor.quantization.zero_point.astype(np.float32)
    if scale.size > 1:
        along = [1] * stored.ndim
        along[tensor.quantization.axis] = scale.size
        scale = scale.reshape(along)
        zero = zero.reshape(along) if zero.size > 1 else zero
    return np.ascontiguousarray((stored - zero) * scale, np.float32)


def _unpack(data: bytes) -> Any:
    classes = schema()
    return classes.ModelT.InitFromPackedBuf(bytearray(data), 0)


def _pack(held: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(held.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())
