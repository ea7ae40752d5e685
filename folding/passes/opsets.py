"""Opset conversion: upwards by the onnx version converter, downwards node by node, and whichever else works.

The version converter knows what changed upwards and gives up on most operators downwards ("No Adapter From
Version 14 for Relu"). It works on a message, so large weights stay where they are.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx
import onnx.version_converter
import onnx_ir as ir

from folding.errors import UnsupportedModel
from folding.ir import weightless
from folding.ir.edit import index_names
from folding.ir.query import all_graphs
from folding.passes.opset_adapters import NoWayError, relabel


def convert(model: ir.Model, target: int) -> bool:
    """Bring the model to `target` of the default domain, in place. Names of values survive.

    Raises: UnsupportedModel (`opset_conversion`) when there is no way.
    """
    current = model.graph.opset_imports.get("", 1)
    if current == target:
        return False
    ways: list[Callable[[ir.Model, int], None]] = [_by_converter, _by_schema]
    reasons = []
    for way in ways if target > current else reversed(ways):
        try:
            way(model, target)
        except (NoWayError, RuntimeError, ValueError, onnx.checker.ValidationError) as error:
            reasons.append((str(error).splitlines() or ["no reason given"])[0])
        else:
            return True
    raise UnsupportedModel(
        f"The model cannot be converted from opset {current} to {target}: {reasons[0]}.",
        code="opset_conversion",
        hint="Leave the opset out, or ask for one nearer to the source's.",
        details={"from": current, "to": target, "reasons": reasons},
    )


def _by_schema(model: ir.Model, target: int) -> None:
    """On a copy that shares the weights, so that a failure half-way leaves the model alone."""
    if model.functions:
        raise NoWayError("model-local functions have opsets of their own")
    twin = model.clone()
    index_names(twin)
    current = model.graph.opset_imports.get("", 1)
    for graph in all_graphs(twin):
        for node in graph:
            relabel(node, current, target)
    twin.graph.opset_imports[""] = target
    model.graph = twin.graph
    index_names(model)


def _by_converter(model: ir.Model, target: int) -> None:
    proto, tensors = weightless.serialize(model)
    declared = [value.name for value in proto.graph.input]
    weightless.as_inputs(proto, tensors)
    _adopt(model, onnx.version_converter.convert_version(proto, target), declared, tensors)
    index_names(model)


def _adopt(
    model: ir.Model, proto: onnx.ModelProto, inputs: list[str], tensors: dict[str, ir.TensorProtocol]
) -> None:
    """Replace the graph by the converted one, with the weights back in their place."""
    kept = [value for value in proto.graph.input if value.name in inputs or value.name not in tensors]
    absent = [value for value in proto.graph.input if value.name in tensors and value.name not in inputs]
    graph = ir.serde.deserialize_model(proto).graph
    by_name = {value.name: value for value in graph.inputs}
    graph.inputs.clear()
    graph.inputs.extend(by_name[value.name] for value in kept)
    for info in [*absent, *(value for value in kept if value.name in tensors)]:
        value = by_name[info.name]
        value.const_value = tensors[info.name]
        graph.register_initializer(value)
    graph.name, graph.doc_string = model.graph.name, model.graph.doc_string
    model.graph = graph
