"""In which floating-point arithmetic a graph is computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import onnx
from onnx import TensorProto, helper

from folding.verify.bounds import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, Arithmetic
from folding.verify.model import Loaded, all_nodes

_BY_TYPE: dict[int, Arithmetic] = {
    TensorProto.DOUBLE: FLOAT64,
    TensorProto.FLOAT: FLOAT32,
    TensorProto.FLOAT16: FLOAT16,
    TensorProto.BFLOAT16: BFLOAT16,
}


def arithmetic_of(artifact: Loaded) -> Arithmetic:
    """Return the arithmetic of the CPU provider for a graph: that of the narrowest float type in it."""
    found = [_BY_TYPE[kind] for kind in set(element_types(artifact)) if kind in _BY_TYPE]
    narrowest = max(found, key=lambda arithmetic: arithmetic.u, default=FLOAT32)
    tiny = max((a.tiny for a in found), default=narrowest.tiny)
    return replace(narrowest, tiny=tiny, largest=min((a.largest for a in found), default=narrowest.largest))


def element_types(loaded: Loaded) -> Iterator[int]:
    """Yield the element types that a graph names: of weights, inputs, declared values, constants, casts."""
    graph = loaded.proto.graph
    yield from (helper.np_dtype_to_tensor_dtype(array.dtype) for array in loaded.weights.values())
    yield from (tensor.data_type for tensor in graph.initializer)
    for value in (*graph.input, *graph.value_info, *graph.output):
        yield value.type.tensor_type.elem_type
    nodes = [*all_nodes(graph), *(node for function in loaded.proto.functions for node in function.node)]
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t.data_type
            elif node.op_type == "Cast" and attribute.name == "to":
                yield attribute.i
