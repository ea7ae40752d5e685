"""Opset conversion by the onnx version converter, over a model whose large weights stay where they are."""

from __future__ import annotations

import onnx
import onnx.version_converter
import onnx_ir as ir

from folding import skeleton
from folding.errors import UnsupportedModel


def convert(model: ir.Model, target: int) -> bool:
    """Bring the model to `target` of the default domain, in place. Names of values survive.

    Raises: UnsupportedModel (`opset_conversion`) when the converter has no way there.
    """
    current = model.graph.opset_imports.get("", 1)
    if current == target:
        return False
    proto, tensors = skeleton.serialize(model)
    declared = [value.name for value in proto.graph.input]
    skeleton.as_inputs(proto, tensors)
    try:
        converted = onnx.version_converter.convert_version(proto, target)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise UnsupportedModel(
            f"The model cannot be converted from opset {current} to {target}: {str(error).splitlines()[0]}",
            code="opset_conversion",
            hint="Leave the opset out, or ask for one nearer to the source's.",
            details={"from": current, "to": target},
        ) from error
    _adopt(model, converted, declared, tensors)
    return True


def _adopt(
    model: ir.Model, proto: onnx.ModelProto, inputs: list[str], tensors: dict[str, ir.TensorProtocol]
) -> None:
    """Replace the graph by the converted one, with the weights back in their place."""
    kept = [value for value in proto.graph.input if value.name in inputs or value.name not in tensors]
    absent = [value for value in proto.graph.input if value.name in tensors and value.name not in inputs]
    converted = ir.serde.deserialize_model(proto)
    graph = converted.graph
    by_name = {value.name: value for value in graph.inputs}
    del graph.inputs[:]
    graph.inputs.extend(by_name[value.name] for value in kept)
    for info in absent:
        value = by_name[info.name]
        value.const_value = tensors[info.name]
        graph.register_initializer(value)
    for info in kept:
        if info.name in tensors:
            by_name[info.name].const_value = tensors[info.name]
            graph.register_initializer(by_name[info.name])
    graph.name, graph.doc_string = model.graph.name, model.graph.doc_string
    model.graph = graph
