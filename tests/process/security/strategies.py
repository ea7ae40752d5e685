"""Structure-aware generators: sound little models with a few things in them changed by hypothesis.

Mutated bytes rarely get past a parser; these get past it and mean something: other dimensions, other types,
calls that recurse, attributes of the wrong kind, names that collide.
"""

# Tables of choices read better in full lines.
# ruff: noqa: E501

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tests.process.security import corpus_keras, corpus_tensorflow

DIMS = st.sampled_from([0, 1, 2, 3, 4, 7, -1, -2, 1 << 16, 1 << 31, (1 << 31) - 1, 1 << 40, (1 << 63) - 1])
FLOATS = st.sampled_from([0.0, 1.0, -1.0, 1e-3, 1e38, -1e38, float("inf"), float("nan"), 1e-45])
NAMES = st.sampled_from(
    ["x", "y", "a", "b", "w", "", "../../x", "<script>", "a\0b", "\u202e", "x:0", "^x", "n" * 200]
)
Draw = Callable[..., Any]

# --- ONNX -------------------------------------------------------------------------------------------

OPS = ("Relu", "Add", "Mul", "Conv", "BatchNormalization", "Gemm", "MatMul", "Reshape", "Transpose", "Concat", "Split",
       "Slice", "Pad", "Expand", "Tile", "Range", "Loop", "If", "Scan", "Constant", "ConstantOfShape", "Cast", "Gather",
       "Squeeze", "Unsqueeze", "Flatten", "MaxPool", "AveragePool", "ConvTranspose", "Resize", "LSTM", "Softmax",
       "Identity", "Dropout", "QuantizeLinear", "DequantizeLinear", "Where", "OneHot", "Einsum", "DepthToSpace")  # fmt: skip


def _array(name: str, shape: list[int]) -> Any:
    values = np.random.default_rng(7).standard_normal(shape).astype(np.float32) + 2.0
    return onnx.numpy_helper.from_array(values, name)


def sound_onnx() -> Any:
    """Conv, BatchNormalization, Relu, Flatten, Gemm, and a call of a model-local function."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"], epsilon=1e-3),
        helper.make_node("twice", ["n"], ["r"], domain="own"),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Gemm", ["f", "k"], ["y"]),
    ]
    weights = [_array("w", [4, 3, 3, 3]), *(_array(n, [4]) for n in "sbm"), _array("k", [64, 5])]
    weights.append(onnx.numpy_helper.from_array(np.full(4, 1.5, np.float32), "v"))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])
    own = helper.make_opsetid("own", 1)
    body = [helper.make_node("Relu", ["i"], ["t"]), helper.make_node("Add", ["t", "i"], ["o"])]
    function = helper.make_function("own", "twice", ["i"], ["o"], body, [helper.make_opsetid("", 17), own])
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), own], functions=[function], ir_version=8
    )


@st.composite
def onnx_models(draw: Draw) -> bytes:
    """A sound model with one to four changes."""
    model = sound_onnx()
    for _ in range(draw(st.integers(1, 4))):
        draw(st.sampled_from(_ONNX_CHANGES))(draw, model)
    return bytes(model.SerializeToString())


def _some(draw: Draw, items: Any) -> Any:
    held = list(items)
    return draw(st.sampled_from(range(len(held)))) if held else None


def _change_dims(draw: Draw, model: Any) -> None:
    tensor = model.graph.initializer[_some(draw, model.graph.initializer)]
    if tensor.dims:
        tensor.dims[_some(draw, tensor.dims)] = draw(DIMS)


def _change_type(draw: Draw, model: Any) -> None:
    model.graph.initializer[_some(draw, model.graph.initializer)].data_type = draw(st.integers(0, 27))


def _change_bytes(draw: Draw, model: Any) -> None:
    tensor = model.graph.initializer[_some(draw, model.graph.initializer)]
    data = tensor.raw_data
    tensor.raw_data = draw(
        st.sampled_from([b"", data[:-1], data + b"\0", data[: len(data) // 2], b"\xff" * len(data)])
    )


def _change_input_shape(draw: Draw, model: Any) -> None:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[_some(draw, dims)].dim_value = draw(DIMS)


def _change_op(draw: Draw, model: Any) -> None:
    node = model.graph.node[_some(draw, model.graph.node)]
    node.op_type, node.domain = (
        draw(st.sampled_from(OPS)),
        draw(st.sampled_from(["", "", "own", "com.microsoft"])),
    )


def _change_wire(draw: Draw, model: Any) -> None:
    node = model.graph.node[_some(draw, model.graph.node)]
    side = draw(st.sampled_from([node.input, node.output]))
    if side:
        side[_some(draw, side)] = draw(st.one_of(NAMES, st.sampled_from(["c", "n", "r", "f", "w", "k"])))


def _change_attribute(draw: Draw, model: Any) -> None:
    node = model.graph.node[_some(draw, model.graph.node)]
    name = draw(st.sampled_from(["axis", "kernel_shape", "pads", "strides", "group", "epsilon", "perm", "to", "body",
                                 "value", "alpha", "transB", "training_mode", "dilations", "auto_pad"]))  # fmt: skip
    kinds: list[Callable[[], Any]] = [
        lambda: draw(DIMS), lambda: [draw(DIMS) for _ in range(draw(st.integers(0, 4)))], lambda: draw(FLOATS),
        lambda: "SAME_UPPER", lambda: model.graph.initializer[0], lambda: [1.5, 2.5],
    ]  # fmt: skip
    for old in [a for a in node.attribute if a.name == name]:
        node.attribute.remove(old)
    node.attribute.append(helper.make_attribute(name, draw(st.sampled_from(kinds))() or [1]))


def _drop_node(draw: Draw, model: Any) -> None:
    del model.graph.node[_some(draw, model.graph.node)]
    if not model.graph.node:
        model.graph.node.add(op_type="Identity", input=["x"], output=["y"])


def _double_node(draw: Draw, model: Any) -> None:
    model.graph.node.add().CopyFrom(model.graph.node[_some(draw, model.graph.node)])


def _add_calls(draw: Draw, model: Any) -> None:
    """Functions that call one another at random: chains, trees and cycles."""
    count = draw(st.integers(1, 6))
    for index in range(count):
        nodes = []
        for step in range(draw(st.integers(1, 12))):
            callee = f"f{draw(st.integers(0, count))}"
            nodes.append(
                helper.make_node(callee, [f"t{step}" if step else "i"], [f"t{step + 1}"], domain="own")
            )
        nodes.append(helper.make_node("Identity", [nodes[-1].output[0]], ["o"]))
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
        model.functions.append(helper.make_function("own", f"f{index}", ["i"], ["o"], nodes, imports))
    node = model.graph.node[_some(draw, model.graph.node)]
    node.op_type, node.domain = "f0", "own"


def _add_loop(draw: Draw, model: Any) -> None:
    from tests.process.security.corpus_onnx import loop_model

    looped = loop_model(draw(st.sampled_from([0, 1, 3, -1, 100, 1 << 20, 1 << 40])), draw(st.integers(1, 4)))
    node = looped.graph.node[0]
    node.input[2], node.output[0] = "c", "looped"
    model.graph.node.insert(draw(st.integers(0, len(model.graph.node))), node)
    model.graph.initializer.extend(looped.graph.initializer)


def _change_opset(draw: Draw, model: Any) -> None:
    model.opset_import[0].version = draw(st.sampled_from([1, 6, 7, 9, 13, 17, 21, 25, 0, -1, 1 << 40]))


def _change_values(draw: Draw, model: Any) -> None:
    name = draw(st.sampled_from("smvb"))
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.raw_data = np.full(4, draw(FLOATS), np.float32).tobytes()


_ONNX_CHANGES = (
    _change_dims, _change_type, _change_bytes, _change_input_shape, _change_op, _change_wire, _change_attribute,
    _drop_node, _double_node, _add_calls, _add_loop, _change_opset, _change_values,
)  # fmt: skip

# --- TensorFlow ---------------------------------------------------------------------------------------


def sound_graph() -> Any:
    """Conv2D, FusedBatchNormV3, Relu and a call, as a frozen graph."""
    tf = corpus_tensorflow
    g = tf.protos().GraphDef()
    g.versions.producer = 1087
    tf.add_input(g.node, dims=(1, 4, 4, 3))
    random = np.random.default_rng(3)
    tf.add_const(g.node, "w", random.standard_normal((3, 3, 3, 4)), tf.FLOAT)
    for name in ("gamma", "beta", "mean"):
        tf.add_const(g.node, name, random.standard_normal(4), tf.FLOAT)
    tf.add_const(g.node, "variance", np.full(4, 1.5), tf.FLOAT)
    conv = tf.add_node(g.node, "Conv2D", "conv", "x", "w", T=tf.FLOAT, padding="SAME", data_format="NHWC")
    conv.attr["strides"].list.i.extend([1, 1, 1, 1])
    norm = tf.add_node(g.node, "FusedBatchNormV3", "bn", "conv", "gamma", "beta", "mean", "variance",
                    T=tf.FLOAT, U=tf.FLOAT, is_training=False, data_format="NHWC")  # fmt: skip
    norm.attr["epsilon"].f = 1e-3

    def body(nodes: Any) -> str:
        tf.add_node(nodes, "Relu", "relu", "x", T=tf.FLOAT)
        return "relu:activations:0"

    tf.add_function(g, "inner", body)
    tf.add_node(g.node, "PartitionedCall", "call", "bn", Tin=[tf.FLOAT], Tout=[tf.FLOAT], f=("inner",))
    tf.add_node(g.node, "Identity", "y", "call", T=tf.FLOAT)
    return g


@st.composite
def graph_defs(draw: Draw) -> bytes:
    """A sound frozen graph with one to four changes."""
    graph = sound_graph()
    for _ in range(draw(st.integers(1, 4))):
        draw(st.sampled_from(_GRAPH_CHANGES))(draw, graph)
    return bytes(graph.SerializeToString())


def _graph_op(draw: Draw, g: Any) -> None:
    pool = ["Relu", "MatMul", "Add", "Fill", "Range", "Tile", "Reshape", "Pad", "Switch", "Merge", "Enter", "NextIteration",
            "StatelessWhile", "If", "Const", "Placeholder", "VariableV2", "VarHandleOp", "ReadFile", "WriteFile",
            "TensorListReserve", "RandomUniform", "Concat", "Split", "MaxPool", "inner", "Softmax", "Where"]  # fmt: skip
    g.node[_some(draw, g.node)].op = draw(st.sampled_from(pool))


def _graph_wire(draw: Draw, g: Any) -> None:
    node = g.node[_some(draw, g.node)]
    target = draw(st.one_of(NAMES, st.sampled_from([n.name for n in g.node] + ["bn:1", "bn:9", "^conv"])))
    if node.input:
        node.input[_some(draw, node.input)] = target
    else:
        node.input.append(target)


def _graph_attribute(draw: Draw, g: Any) -> None:
    node = g.node[_some(draw, g.node)]
    key = draw(st.sampled_from([*sorted(node.attr), "T", "dtype", "shape", "strides", "f"]))
    value = node.attr[key]
    kind = draw(st.sampled_from(["i", "f", "s", "b", "type", "shape", "list", "func", "drop"]))
    value.Clear()
    if kind == "drop":
        del node.attr[key]
    elif kind == "shape":
        for _ in range(draw(st.integers(0, 4))):
            value.shape.dim.add(size=draw(DIMS))
    elif kind == "list":
        value.list.i.extend([draw(DIMS) for _ in range(draw(st.integers(0, 5)))])
    elif kind == "func":
        value.func.name = draw(st.sampled_from(["inner", "f0", "nobody"]))
    elif kind == "type":
        value.type = draw(st.integers(0, 30))
    elif kind == "s":
        value.s = draw(st.sampled_from([b"", b"SAME", b"NCHW", b"/etc/passwd", b"\xff\xfe"]))
    else:
        setattr(value, kind, {"i": draw(DIMS), "f": 1e38, "b": True}[kind])


def _graph_dims(draw: Draw, g: Any) -> None:
    constants = [n for n in g.node if n.attr["value"].tensor.tensor_shape.dim]
    if constants:
        dims = constants[_some(draw, constants)].attr["value"].tensor.tensor_shape.dim
        dims[_some(draw, dims)].size = draw(DIMS)


def _graph_content(draw: Draw, g: Any) -> None:
    constants = [n for n in g.node if n.op == "Const"]
    if constants:
        tensor = constants[_some(draw, constants)].attr["value"].tensor
        data = tensor.tensor_content
        tensor.tensor_content = draw(
            st.sampled_from([b"", data[:-1], data[:4], data + b"\0", b"\xff" * len(data)])
        )


def _graph_drop(draw: Draw, g: Any) -> None:
    if len(g.node) > 2:
        del g.node[_some(draw, g.node)]


def _graph_double(draw: Draw, g: Any) -> None:
    g.node.add().CopyFrom(g.node[_some(draw, g.node)])


def _graph_rename(draw: Draw, g: Any) -> None:
    g.node[_some(draw, g.node)].name = draw(NAMES)


def _graph_calls(draw: Draw, g: Any) -> None:
    count = draw(st.integers(1, 6))
    for index in range(count):
        callees = [f"f{draw(st.integers(0, count))}" for _ in range(draw(st.integers(1, 8)))]

        def body(nodes: Any, callees: list[str] = callees) -> str:
            result = "x"
            for position, callee in enumerate(callees):
                result = corpus_tensorflow.add_call(nodes, f"call{position}", callee, result)
            return result

        corpus_tensorflow.add_function(g, f"f{index}", body)
    for node in g.node:
        if node.op == "PartitionedCall":
            node.attr["f"].func.name = "f0"


_GRAPH_CHANGES = (
    _graph_op, _graph_wire, _graph_attribute, _graph_attribute, _graph_dims, _graph_content, _graph_drop,
    _graph_double, _graph_rename, _graph_calls,
)  # fmt: skip

# --- Keras --------------------------------------------------------------------------------------------

CLASSES = st.sampled_from(["Dense", "Conv2D", "BatchNormalization", "Lambda", "TFSMLayer", "Flatten", "Embedding", "LSTM",
                           "Sequential", "Functional", "Add", "function", "__lambda__", "__tensor__", "Popen", "Layer",
                           "InputLayer", "TimeDistributed", "StringLookup", "Reshape", "Zeros", ""])  # fmt: skip
MODULES = st.sampled_from(["keras.layers", "keras", "os", "subprocess", "keras.utils", "keras.src.ops.numpy", "builtins",
                           "keras.activations", None, "keras.layers.os", ""])  # fmt: skip
LEAVES = st.one_of(
    DIMS,
    FLOATS,
    NAMES,
    st.none(),
    st.booleans(),
    st.builds(list),
    st.builds(dict),
    st.builds(lambda: [[[[1]]]]),
)


@st.composite
def keras_archives(draw: Draw) -> bytes:
    """A small sound Keras 3 model whose configuration is changed in one to four places."""
    config = sound_config()
    for _ in range(draw(st.integers(1, 4))):
        _change_config(draw, config)
    return keras_bytes(config)


def sound_config() -> Any:
    layers = [
        corpus_keras.layer_config("Dense", units=4, activation="relu", use_bias=True),
        corpus_keras.layer_config(
            "BatchNormalization", axis=-1, momentum=0.99, epsilon=1e-3, center=True, scale=True
        ),
        corpus_keras.layer_config("Dense", units=2, activation="linear", use_bias=True),
    ]
    for index, layer in enumerate(layers):
        layer["config"]["name"] = f"l{index}"
    return corpus_keras.sequential(*layers)


def keras_bytes(config: Any) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.15.1", "date_saved": "x"}')
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", _dense_weights())
    return out.getvalue()


def _dense_weights() -> bytes:
    out = io.BytesIO()
    shapes = {"dense": [(4, 4), (4,)], "batch_normalization": [(4,)] * 4, "dense_1": [(4, 2), (2,)]}
    with h5py.File(out, "w") as file:
        for layer, held in shapes.items():
            for index, shape in enumerate(held):
                file[f"layers/{layer}/vars/{index}"] = np.ones(shape, np.float32)
    return out.getvalue()


def _change_config(draw: Draw, config: Any) -> None:
    """Walk down at random; change what is there."""
    item: Any = config
    for _ in range(draw(st.integers(1, 7))):
        keys = list(item) if isinstance(item, dict) else range(len(item))
        inner = [k for k in keys if isinstance(item[k], dict | list) and item[k]]
        if not inner or draw(st.integers(0, 4)) == 0:
            break
        item = item[draw(st.sampled_from(inner))]
    keys = list(item) if isinstance(item, dict) else list(range(len(item)))
    if not keys:
        return
    key = draw(st.sampled_from(keys))
    pools = {"class_name": CLASSES, "module": MODULES, "registered_name": CLASSES}
    item[key] = draw(pools.get(key, LEAVES))


# --- archives -----------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    ["a", "A", "b", "..", ".", "", "model.onnx", "\u00e9", "e\u0301", "C:", "x\ny", "long" * 70, "a\\b"]
)
KINDS = st.sampled_from([tarfile.REGTYPE] * 6 + [tarfile.DIRTYPE] * 2 + [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE,
                        tarfile.CHRTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE])  # fmt: skip


@st.composite
def tars(draw: Draw) -> bytes:
    """Members with names and kinds at random."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for _ in range(draw(st.integers(1, 6))):
            info = tarfile.TarInfo("/".join(draw(st.lists(PIECES, min_size=1, max_size=4))))
            info.type = draw(KINDS)
            info.linkname = draw(st.sampled_from(["", "a", "/etc/passwd", "../.."]))
            data = draw(st.binary(max_size=20)) if info.type == tarfile.REGTYPE else b""
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


SOUND: dict[str, Callable[[], bytes]] = {
    "onnx": lambda: bytes(sound_onnx().SerializeToString()),
    "tensorflow": lambda: bytes(sound_graph().SerializeToString()),
    "keras": lambda: keras_bytes(sound_config()),
}
