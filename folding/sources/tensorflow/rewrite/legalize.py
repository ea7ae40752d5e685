"""Ops that today's converter does not know, in ops that it does; and the types of outputs.

BatchNormWithGlobalNormalization(t, m, v, beta, gamma; variance_epsilon, scale_after_normalization)
    = (t - m) * rsqrt(v + variance_epsilon) [* gamma] + beta
    -> FusedBatchNormV3(t, gamma or 1, beta, m, v), or the arithmetic itself (for the reference).
"""

from __future__ import annotations

import numpy as np

from folding.errors import UnsupportedModel
from folding.sources.tensorflow.graph.constant_eval import evaluate
from folding.sources.tensorflow.graph.tf_graph import (
    Node,
    TfGraph,
    data_inputs,
    dtype_of,
    numpy_dtype,
    shape_of,
    split,
)

_RENAMED = {
    "Inv": "Reciprocal", "Snapshot": "Identity", "PreventGradient": "Identity", "CheckNumerics": "Identity",
    "StopGradient": "Identity", "BatchMatMul": "BatchMatMulV2", "AdjustContrast": "AdjustContrastv2",
    "PlaceholderV2": "Placeholder", "EnsureShape": "Identity", "Print": "Identity",
}  # fmt: skip


_INT32, _BOOL = 3, 10  # DT_INT32, DT_BOOL


def legalize(graph: TfGraph, *, arithmetic: bool = False) -> None:
    """Rewrite in place. `arithmetic`: spell the 2015 batch norm as Sub/Rsqrt/Mul/Add, not as a fused op."""
    alias: dict[str, str] = {}
    for node in list(graph.nodes.values()):
        if (
            node.op.startswith("FusedBatchNorm")
            and "is_training" in node.attr
            and not node.attr["is_training"].b
        ):
            mean, variance = data_inputs(node)[3:5]  # in inference mode the op hands them on
            alias.update({f"{node.name}:1": mean, f"{node.name}:2": variance})
        elif node.op == "FusedBatchNormV3" and not arithmetic and _is_layer_norm(graph, node):
            _layer_norm(graph, node)
        elif node.op == "BatchNormWithGlobalNormalization":
            _global_normalization(graph, node, arithmetic)
        elif node.op == "Bucketize" and not arithmetic:
            _bucketize(graph, node)
        elif node.op == "Erfc":
            _complement(graph, node)
        elif node.op in _RENAMED:
            _rename(node)
    graph.rewire(alias)


def _complement(graph: TfGraph, node: Node) -> None:
    """erfc(x) = 1 - erf(x)."""
    dtype, inputs = dtype_of(node), data_inputs(node)
    one = graph.add("Const", f"{node.name}/one").name
    graph.set_constant(one, np.asarray(1, numpy_dtype(dtype)))
    inner = graph.add("Erf", f"{node.name}/erf", inputs, T=dtype).name
    node.op = "Sub"
    del node.input[:]
    node.input.extend([one, inner])


def _is_layer_norm(graph: TfGraph, node: Node) -> bool:
    """Keras 2 takes examples for channels: (1, examples, features, 1), scale 1 and offset 0 filled in."""
    inputs = data_inputs(node)
    source, scale = (graph.nodes.get(split(ref)[0]) for ref in inputs[:2])
    if node.attr["data_format"].s != b"NCHW" or source is None or scale is None or scale.op != "Fill":
        return False
    packed = graph.nodes.get(split(data_inputs(source)[1])[0]) if source.op == "Reshape" else None
    if packed is None or packed.op != "Pack" or len(data_inputs(packed)) != 4:
        return False
    ends = [evaluate(graph, data_inputs(packed)[place]) for place in (0, 3)]
    filled = [evaluate(graph, data_inputs(graph.nodes[split(ref)[0]])[1]) for ref in inputs[1:3]]
    values = [None if value is None or value.size != 1 else value.item() for value in (*ends, *filled)]
    return values == [1, 1, 1, 0] and all(f"{node.name}:{k}" not in graph.consumers() for k in (1, 2))


def _layer_norm(graph: TfGraph, node: Node) -> None:
    """(x - mean) * rsqrt(variance + epsilon) over the features; the outer dimensions are 1."""
    kind, name, x = dtype_of(node), node.name, data_inputs(node)[0]
    axis, small = graph.add("Const", f"{name}/axis").name, graph.add("Const", f"{name}/epsilon").name
    graph.set_constant(axis, np.asarray([2], np.int32))
    graph.set_constant(small, np.asarray(node.attr["epsilon"].f, numpy_dtype(kind)))

    def add(op: str, *inputs: str) -> str:
        new = graph.add(op, f"{name}/{op}", inputs, T=kind)
        if op == "Mean":
            new.attr["Tidx"].type = _INT32
            new.attr["keep_dims"].b = True
        return str(new.name)

    centred = add("Sub", x, add("Mean", x, axis))
    variance = add("Mean", add("Square", centred), axis)
    inverse = add("Rsqrt", add("AddV2", variance, small))
    node.op = "Mul"
    del node.input[:]
    node.input.extend([centred, inverse])
    node.attr.clear()
    node.attr["T"].type = kind


def _bucketize(graph: TfGraph, node: Node) -> None:
    """The number of boundaries that x reaches: sum(x >= boundary)."""
    kind = dtype_of(node)
    boundaries = np.asarray(list(node.attr["boundaries"].list.f), numpy_dtype(kind))
    axis, edges = (
        graph.add("Const", f"{node.name}/axis").name, graph.add("Const", f"{node.name}/boundaries").name
    )  # fmt: skip
    graph.set_constant(axis, np.asarray(-1, np.int32))
    graph.set_constant(edges, boundaries)
    spread = graph.add("ExpandDims", f"{node.name}/x", [data_inputs(node)[0], axis], T=kind, Tdim=_INT32).name
    reached = graph.add("GreaterEqual", f"{node.name}/reached", [spread, edges], T=kind).name
    counted = graph.add("Cast", f"{node.name}/counted", [reached], SrcT=_BOOL, DstT=_INT32).name
    node.op = "Sum"
    del node.input[:]
    node.input.extend([counted, axis])
    node.attr.clear()
    node.attr["T"].type = node.attr["Tidx"].type = _INT32
    node.attr["keep_dims"].b = False


def _rename(node: Node) -> None:
    node.op = _RENAMED[node.op]
    if node.op != "Identity":
        return
    dtype, first = dtype_of(node), data_inputs(node)[0]
    del node.input[:]
    node.input.append(first)  # Print and CheckNumerics know more than Identity does
    node.attr.clear()
    node.attr["T"].type = dtype


def _global_normalization(graph: TfGraph, node: Node, arithmetic: bool) -> None:
    t, mean, variance, beta, gamma = data_inputs(node)
    epsilon = node.attr["variance_epsilon"].f
    scaled = node.attr["scale_after_normalization"].b
    dtype = dtype_of(node)
    if arithmetic:
        _spell_out(graph, node, (t, mean, variance, beta, gamma), epsilon, scaled, dtype)
        return
    if not scaled:
        gamma = _ones(graph, node, variance, dtype)
    node.op = "FusedBatchNormV3"
    del node.input[:]
    node.input.extend([t, gamma, beta, mean, variance])
    node.attr.clear()
    node.attr["T"].type = node.attr["U"].type = dtype
    node.attr["epsilon"].f = epsilon
    node.attr["is_training"].b = False
    node.attr["data_format"].s = b"NHWC"


def _ones(graph: TfGraph, node: Node, variance: str, dtype: int) -> str:
    source = graph.nodes[split(variance)[0]]
    while source.op == "Identity":
        source = graph.nodes[split(source.input[0])[0]]
    if source.op == "Const":
        channels = [dim.size for dim in source.attr["value"].tensor.tensor_shape.dim]
    else:
        channels = [d for d in shape_of(source) or [] if d is not None]
    if len(channels) != 1:
        raise UnsupportedModel(f"The number of channels of {node.name!r} is unknown.", layer=node.name)
    name: str = graph.add("Const", f"{node.name}/ones").name
    graph.set_constant(name, np.ones(channels, numpy_dtype(dtype)))
    return name


def _spell_out(
    graph: TfGraph, node: Node, inputs: tuple[str, ...], epsilon: float, scaled: bool, dtype: int
) -> None:
    t, mean, variance, beta, gamma = inputs
    small = graph.add("Const", f"{node.name}/epsilon").name
    graph.set_constant(small, np.asarray(epsilon, numpy_dtype(dtype)))
    shifted = graph.add("AddV2", f"{node.name}/add", [variance, small], T=dtype).name
    inverse = graph.add("Rsqrt", f"{node.name}/rsqrt", [shifted], T=dtype).name
    if scaled:
        inverse = graph.add("Mul", f"{node.name}/mul", [inverse, gamma], T=dtype).name
    centred = graph.add("Sub", f"{node.name}/sub", [t, mean], T=dtype).name
    product = graph.add("Mul", f"{node.name}/mul_1", [centred, inverse], T=dtype).name
    node.op = "AddV2"
    del node.input[:]
    node.input.extend([product, beta])
    node.attr.clear()
    node.attr["T"].type = dtype


def output_dtype(graph: TfGraph, node: Node, index: int) -> int:
    """DataType enum of a node's output, from the op's definition; 1 (float) where nothing tells."""
    from tensorflow.python.framework import op_def_registry

    if node.op in (
        "Variable",
        "VariableV2",
        "Placeholder",
        "PlaceholderV2",
        "Const",
        "PlaceholderWithDefault",
    ):
        return dtype_of(node)
    if node.op in graph.library:
        return int(graph.library[node.op].signature.output_arg[index].type)
    definition = op_def_registry.get(node.op)
    position = 0
    for argument in definition.output_arg if definition is not None else ():
        if argument.type_list_attr:
            types = node.attr[argument.type_list_attr].list.type
            if index - position < len(types):
                return int(types[index - position])
            position += len(types)
            continue
        count = node.attr[argument.number_attr].i if argument.number_attr else 1
        if index < position + count:
            if argument.type:
                return int(argument.type)
            held = int(node.attr[argument.type_attr].type) if argument.type_attr in node.attr else 0
            return (held or _default_type(definition, argument.type_attr)) % 100
        position += count
    return dtype_of(node) or 1


def _default_type(definition: object, name: str) -> int:
    for attr in definition.attr:  # type: ignore[attr-defined]
        if attr.name == name and attr.HasField("default_value"):
            return int(attr.default_value.type)
    return 1
