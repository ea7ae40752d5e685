"""Shape and type inference over a model whose large weights stay where they are.

Given: values without shapes. Result: `Value.shape` and `Value.type` as far as onnx can tell them.
A dimension that is known is never given up for one that is not, and graph inputs and outputs keep theirs.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir

from folding.ir import weightless
from folding.ir.query import all_graphs
from folding.ir.shapes import INFERRED, dims, dims_by_weights, keeps_shape


def infer_shapes(model: ir.Model) -> bool:
    """Fill in shapes and types; True when some value learned something. Never raises: what cannot be
    inferred stays unknown."""
    learned = _infer(model)
    return (_infer(model) or learned) if _seed(model) else learned


def _seed(model: ir.Model) -> bool:
    """Inference says nothing of a convolution whose input has no rank; its weights do."""
    seeded = False
    for graph in all_graphs(model):
        for node in graph:
            if (
                len(node.outputs) != 1
                or node.outputs[0].shape is not None
                or node.outputs[0].is_graph_output()
            ):
                continue
            told = dims(node.inputs[0]) if keeps_shape(node) else dims_by_weights(node)
            if told is not None:
                node.outputs[0].shape = ir.Shape(told)
                node.outputs[0].type = node.outputs[0].type or _type_of(node.inputs[0])
                seeded = True
    return seeded


def _type_of(value: ir.Value | None) -> ir.TypeProtocol | None:
    return None if value is None else value.type


def _infer(model: ir.Model) -> bool:
    proto, tensors = weightless.serialize(model)
    weightless.as_inputs(proto, tensors)
    _forget_declared_outputs(proto.graph)
    for check_type in (True, False):  # without it, onnx does not look into operators defined as functions
        try:
            inferred = onnx.shape_inference.infer_shapes(
                proto, check_type=check_type, strict_mode=False, data_prop=True
            )
        except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
            continue
        return _learn_graph(model.graph, inferred.graph)
    return False


def _forget_declared_outputs(graph: onnx.GraphProto) -> None:
    """Let inference say what it finds: a declared output shape is a claim that no runtime enforces, and what
    follows from it must not become part of the computation."""
    for value in graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")


def complete(model: ir.Model) -> bool:
    """Whether every value of every graph has a type and a shape."""
    return all(
        value.shape is not None and value.type is not None
        for graph in all_graphs(model)
        for node in graph
        for value in node.outputs
    )


def _learn_graph(graph: ir.Graph, proto: onnx.GraphProto) -> bool:
    infos = {info.name: info for info in (*proto.value_info, *proto.output)}
    learned = False
    for node, node_proto in zip(graph, proto.node, strict=True):
        for value in node.outputs:
            info = infos.get(value.name or "")
            if info is not None:
                learned |= _learn(value, info)
        for attribute in node_proto.attribute:
            if attribute.HasField("g"):
                learned |= _learn_graph(node.attributes[attribute.name].as_graph(), attribute.g)
    return learned


def _learn(value: ir.Value, info: onnx.ValueInfoProto) -> bool:
    learned = False
    if value.type is None:
        value.type = ir.serde.deserialize_type_proto_for_type(info.type)
        learned = value.type is not None
    shape = ir.serde.deserialize_type_proto_for_shape(info.type)
    if shape is None:
        return learned
    if value.is_graph_output():
        value.meta[INFERRED] = _merge(value.meta.get(INFERRED), shape)
        if value.shape is None:  # the checker asks for one; what inference made up has no place in it
            value.shape = _without_invented_names(shape)
        return learned  # else the interface is the user's
    merged = _merge(value.shape, shape)
    if merged == value.shape:
        return learned
    value.shape = merged
    return True


def _without_invented_names(shape: ir.Shape) -> ir.Shape:
    return ir.Shape(
        [None if not isinstance(dim, int) and (dim.value or "").startswith("unk__") else dim for dim in shape]
    )


def _merge(old: ir.Shape | None, new: ir.Shape) -> ir.Shape:
    """Per dimension the better known one; an inferred number outranks a recorded name."""
    if old is None or len(old) != len(new):
        return new
    dims = [n if isinstance(n, int) else o if isinstance(o, int) or o.value is not None else n
            for o, n in zip(old, new, strict=True)]  # fmt: skip
    return ir.Shape(dims)
