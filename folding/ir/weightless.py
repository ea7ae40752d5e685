"""A model's ModelProto without its large weights, for everything that looks at structure only.

The onnx checker, shape inference and the version converter are C++ behind a serialized message: weights
would be copied three times and end at 2 GiB. They only ever need the small ones (shapes, axes, scales).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import onnx_ir as ir

THRESHOLD = 1024  # bytes; above it a tensor is a weight, below it a shape or an axis list


def is_large(tensor: ir.TensorProtocol | None) -> bool:
    """Whether a tensor counts as a weight that structure-only work does without."""
    return tensor is not None and tensor.dtype != ir.DataType.STRING and tensor.nbytes > THRESHOLD


@contextmanager
def stubbed(model: ir.Model) -> Iterator[dict[str, ir.TensorProtocol]]:
    """Replace large initializers of the main graph by stubs without data; yields them by name."""
    large = {name: v for name, v in model.graph.initializers.items() if is_large(v.const_value)}
    tensors: dict[str, ir.TensorProtocol] = {}
    for name, value in large.items():
        tensor = value.const_value
        assert tensor is not None
        tensors[name] = tensor
        value.const_value = ir.ExternalTensor(
            "detached", 0, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name
        )
    try:
        yield tensors
    finally:
        for name, value in large.items():
            value.const_value = tensors[name]


def serialize(model: ir.Model) -> tuple[onnx.ModelProto, dict[str, ir.TensorProtocol]]:
    """ModelProto whose large initializers are missing, and the tensors that belong there, in order."""
    with stubbed(model) as tensors:
        proto = ir.serde.serialize_model(model)
    small = [t for t in proto.graph.initializer if t.name not in tensors]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(small)
    return proto, tensors


def as_inputs(proto: onnx.ModelProto, tensors: dict[str, ir.TensorProtocol]) -> onnx.ModelProto:
    """Declare the missing initializers as graph inputs (in place), so that the message is a valid model."""
    declared = {value.name for value in proto.graph.input}
    for name, tensor in tensors.items():
        if name not in declared:
            info = onnx.helper.make_tensor_value_info(name, tensor.dtype.value, list(tensor.shape.numpy()))
            proto.graph.input.append(info)
    if proto.ir_version < 4:  # where every initializer must be an input
        proto.ir_version = 4
    return proto


def give_shapes(proto: onnx.ModelProto) -> None:
    """Let inputs and outputs of unknown rank pass the checker, which asks for the field; runtimes never do.

    What is given says rank 0, so this is for checks of structure and never for shape inference.
    """
    for value in (*proto.graph.input, *proto.graph.output):
        if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape"):
            value.type.tensor_type.shape.SetInParent()
