"""Small TensorFlow Lite files written field by field, right or wrong on purpose. No TensorFlow."""

# Tables of one case a line read better than wrapped brackets.
# ruff: noqa: E501

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

FLOAT32, INT8 = schema.TensorType.FLOAT32, schema.TensorType.INT8
OPERATORS = schema.BuiltinOperator


def tensor(
    name: str, shape: tuple[int, ...], *, buffer: int = 0, kind: int = FLOAT32, scale: Any = None, zero: int = 0,
    axis: int = 0,
) -> Any:  # fmt: skip
    made = schema.TensorT()
    made.name, made.shape, made.type, made.buffer = name, np.array(shape, np.int32), kind, buffer
    if scale is not None:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale = np.atleast_1d(np.array(scale, np.float32))
        made.quantization.zeroPoint = np.full(made.quantization.scale.size, zero, np.int64)
        made.quantization.quantizedDimension = axis
    return made


def operator(code: int, inputs: list[int], outputs: list[int], kind: int = 0, options: Any = None) -> Any:
    made = schema.OperatorT()
    made.opcodeIndex, made.inputs, made.outputs = code, inputs, outputs
    made.builtinOptionsType, made.builtinOptions = kind, options
    return made


def code(builtin: int, custom: str | None = None) -> Any:
    made = schema.OperatorCodeT()
    made.builtinCode, made.deprecatedBuiltinCode, made.version, made.customCode = (
        builtin,
        min(builtin, 127),
        1,
        custom,
    )
    return made


def buffer(array: np.ndarray | None = None) -> Any:
    made = schema.BufferT()
    if array is not None:
        made.data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return made


def graph(
    tensors: list[Any], operators: list[Any], inputs: list[int], outputs: list[int], name: str = "main"
) -> Any:
    made = schema.SubGraphT()
    made.tensors, made.operators, made.inputs, made.outputs, made.name = (
        tensors,
        operators,
        inputs,
        outputs,
        name,
    )
    return made


def model(graphs: list[Any], codes: list[Any], buffers: list[Any]) -> Any:
    made = schema.ModelT()
    made.version, made.subgraphs, made.operatorCodes, made.buffers = 3, graphs, codes, buffers
    return made


def packed(made: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(made.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def dense(change: Callable[[Any], None] | None = None) -> bytes:
    """`y = relu(x w^T + b)` with a float x of (1, 4); `change` may spoil the model before it is packed."""
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU
    made = model(
        [graph(
            [tensor("x", (1, 4)), tensor("w", (3, 4), buffer=1), tensor("b", (3,), buffer=2), tensor("y", (1, 3))],
            [operator(0, [0, 1, 2], [3], schema.BuiltinOptions.FullyConnectedOptions, options)],
            [0], [3],
        )],
        [code(OPERATORS.FULLY_CONNECTED)],
        [buffer(), buffer(np.arange(12, dtype=np.float32) / 7 - 0.5), buffer(np.ones(3, np.float32))],
    )  # fmt: skip
    if change is not None:
        change(made)
    return packed(made)


def quantized(change: Callable[[Any], None] | None = None) -> bytes:
    """The same in 8-bit integers, per channel, input and output included."""
    weights = np.array([[127, -90, 3, 40], [-127, 5, 60, -7], [11, 127, -33, 2]], np.int8)
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU
    scales = np.array([0.01, 0.02, 0.03], np.float32)
    made = model(
        [graph(
            [
                tensor("x", (1, 4), kind=INT8, scale=0.05, zero=-3),
                tensor("w", (3, 4), buffer=1, kind=INT8, scale=scales),
                tensor("b", (3,), buffer=2, kind=schema.TensorType.INT32, scale=scales * np.float32(0.05)),
                tensor("y", (1, 3), kind=INT8, scale=0.1, zero=5),
            ],
            [operator(0, [0, 1, 2], [3], schema.BuiltinOptions.FullyConnectedOptions, options)],
            [0], [3],
        )],
        [code(OPERATORS.FULLY_CONNECTED)],
        [buffer(), buffer(weights), buffer(np.array([100, -200, 300], np.int32))],
    )  # fmt: skip
    if change is not None:
        change(made)
    return packed(made)
