"""The GraphDef behind a TensorFlow.js graph model: nodes from JSON, weights as constants, fused nodes apart.

TensorFlow.js' converter fuses bias and activation into convolutions and names operations that TensorFlow
itself does not have. Written out again, batch norms, bounds and tf2onnx see what they know:

    _FusedConv2D, FusedDepthwiseConv2dNative, _FusedMatMul (x, w, b, fused_ops) -> op, BiasAdd, activation
    Prelu(x, alpha)                                                             -> Relu(x) - alpha * Relu(-x)
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np

from folding.errors import CorruptModel, UnsupportedModel
from folding.sources.gates.limits import LIMITS, corrupt, refuse, shown
from folding.sources.gates.tfjs import CODE
from folding.sources.tensorflow.graph.runtime import tensorflow

FUSED = {
    "_FusedConv2D": "Conv2D",
    "FusedConv2D": "Conv2D",
    "FusedDepthwiseConv2dNative": "DepthwiseConv2dNative",
    "_FusedDepthwiseConv2dNative": "DepthwiseConv2dNative",
    "_FusedMatMul": "MatMul",
}
_ACTIVATIONS = {"Relu": "Relu", "Relu6": "Relu6", "Elu": "Elu", "Sigmoid": "Sigmoid", "Tanh": "Tanh"}
# Attributes of fused nodes that their parts do not have.
_OF_FUSION = ("fused_ops", "num_args", "epsilon", "leakyrelu_alpha", "TArgs", "num_host_args", "host_inputs")


def build(topology: dict[str, Any], weights: dict[str, np.ndarray]) -> Any:
    """Return the GraphDef. Raises CorruptModel, UnsupportedModel."""
    tensorflow()
    from google.protobuf.json_format import ParseDict, ParseError
    from tensorflow.core.framework import graph_pb2

    nodes = topology.get("node")
    library = topology.get("library", {})
    functions = library.get("function", []) if isinstance(library, dict) else None
    if not isinstance(nodes, list) or not isinstance(functions, list):
        corrupt("The model's topology has no list of nodes.", code=CODE)
    if len(nodes) > LIMITS.nodes:
        refuse(
            "unsafe_graph_size", f"The graph has {len(nodes)} nodes.", limit=LIMITS.nodes, hint="Export less."
        )
    for node in _all_nodes(nodes, functions):
        _as_protobuf(node)
    graph = graph_pb2.GraphDef()
    try:
        ParseDict({"node": nodes, "library": {"function": functions}}, graph, ignore_unknown_fields=True)
    except (ParseError, TypeError, ValueError) as error:
        raise CorruptModel(
            f"The model's topology is no TensorFlow graph: {' '.join(str(error).split())[:200]}",
            code=CODE,
            hint="Convert the model to TensorFlow.js again.",
        ) from error
    versions = topology.get("versions")
    if isinstance(versions, dict) and str(versions.get("producer", "")).isdigit():
        graph.versions.producer = min(int(versions["producer"]), 1 << 20)
    for body in [graph.node, *(function.node_def for function in graph.library.function)]:
        _bind(body, weights)
        _write_out(body)
    return graph


def _all_nodes(nodes: list[Any], functions: list[Any]) -> Iterator[dict[str, Any]]:
    bodies = [nodes]
    for function in functions:
        if not isinstance(function, dict):
            corrupt("A function of the library is no object.", code=CODE)
        bodies.append(function.get("nodeDef", []))
    for body in bodies:
        for node in body:
            if not isinstance(node, dict) or not isinstance(node.get("name"), str):
                corrupt("A node of the graph has no name.", code=CODE)
            yield node


def _as_protobuf(node: dict[str, Any]) -> None:
    """Older converters write strings as lists of byte values; and an empty list stands for no value."""
    attributes = node.get("attr", {})
    if not isinstance(attributes, dict):
        corrupt(f"Node {shown(node['name'])!r} has attributes that are no object.", code=CODE)
    for value in attributes.values():
        if not isinstance(value, dict):
            continue
        if "s" in value:
            value["s"] = _text(value["s"])
        held = value.get("list")
        if isinstance(held, dict) and isinstance(held.get("s"), list):
            held["s"] = [_text(item) for item in held["s"]]


def _text(value: Any) -> Any:
    if isinstance(value, list) and all(type(item) is int and 0 <= item < 256 for item in value):
        return base64.b64encode(bytes(value)).decode()
    return value


def _bind(nodes: Any, weights: dict[str, np.ndarray]) -> None:
    """Give each constant its value. Raises CorruptModel `missing_weights`."""
    from tensorflow.python.framework import dtypes, tensor_util

    for node in nodes:
        if node.op != "Const":
            continue
        if node.name not in weights:
            raise CorruptModel(
                f"The manifest has no weight {shown(node.name)!r}.",
                code="missing_weights", layer=shown(node.name), hint="Convert the model again.",
            )  # fmt: skip
        kind = dtypes.as_dtype(node.attr["dtype"].type)
        value = weights[node.name]
        if kind != dtypes.string:
            value = value.astype(kind.as_numpy_dtype)  # the manifest may be narrower than the node
        node.attr["value"].tensor.CopyFrom(
            tensor_util.make_tensor_proto(value, dtype=kind, shape=value.shape)
        )


def _write_out(nodes: Any) -> None:
    """Replace fused nodes by their parts; the last part has the node's name."""
    for node in list(nodes):
        if node.op in FUSED:
            _unfuse(nodes, node)
        elif node.op == "Prelu":
            _prelu(nodes, node)


def _unfuse(nodes: Any, node: Any) -> None:
    steps = [step.decode("utf-8", "replace") for step in node.attr["fused_ops"].list.s]
    data = [name for name in node.input if not name.startswith("^")]
    control = [name for name in node.input if name.startswith("^")]
    extra = data[2:]
    kind = node.attr["T"].type or 1
    parts: list[tuple[str, list[str]]] = [(FUSED[node.op], data[:2])]
    for step in steps:
        if step == "BiasAdd" and extra:
            parts.append(("BiasAdd", [extra.pop(0)]))
        elif step == "Prelu" and extra:
            parts.append(("Prelu", [extra.pop(0)]))
        elif step == "LeakyRelu":
            parts.append(("LeakyRelu", []))
        elif step in _ACTIVATIONS:
            parts.append((_ACTIVATIONS[step], []))
        else:
            raise UnsupportedModel(
                f"Node {shown(node.name)!r} is a {node.op} with {shown(step)!r} fused into it.",
                code="unsupported_op", layer=shown(node.name), details={"ops": [node.op]},
                hint="Convert the model to TensorFlow.js without that fusion, or give the SavedModel.",
            )  # fmt: skip
    name, alpha = node.name, node.attr["leakyrelu_alpha"].f
    names = [f"{name}/unfused_{number}" for number in range(len(parts) - 1)] + [name]
    node.op, node.name = parts[0][0], names[0]
    del node.input[:]
    node.input.extend([*parts[0][1], *control])
    for key in _OF_FUSION:
        node.attr.pop(key, None)
    if node.op == "DepthwiseConv2dNative":
        node.attr.pop("use_cudnn_on_gpu", None)
    layout = node.attr["data_format"].s if "data_format" in node.attr else b""
    for (op, inputs), before, here in zip(parts[1:], names, names[1:], strict=False):
        part = nodes.add(op=op, name=here)
        part.input.extend([before, *inputs])
        part.attr["T"].type = kind
        if op == "BiasAdd" and layout:
            part.attr["data_format"].s = layout
        elif op == "LeakyRelu":
            part.attr["alpha"].f = alpha
        elif op == "Prelu":
            _prelu(nodes, part)


def _prelu(nodes: Any, node: Any) -> None:
    """relu(x) - alpha * relu(-x)."""
    x, slope = [name for name in node.input if not name.startswith("^")][:2]
    kind = node.attr["T"].type or 1
    name = node.name
    for suffix, op, inputs in (
        ("positive", "Relu", [x]),
        ("negated", "Neg", [x]),
        ("negative", "Relu", [f"{name}/negated"]),
        ("sloped", "Mul", [slope, f"{name}/negative"]),
    ):
        part = nodes.add(op=op, name=f"{name}/{suffix}")
        part.input.extend(inputs)
        part.attr["T"].type = kind
    node.op = "Sub"
    del node.input[:]
    node.input.extend([f"{name}/positive", f"{name}/sloped"])
    node.attr.clear()
    node.attr["T"].type = kind
