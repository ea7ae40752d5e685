"""TensorFlow graphs, SavedModels and checkpoints that read, write, recurse or explode."""

# A table of one case a line reads better than wrapped brackets.
# ruff: noqa: E501

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Write = Callable[[Path], Path | None]
FLOAT, INT32, STRING, INT64, RESOURCE = 1, 3, 7, 9, 20


def _protos() -> Any:
    from tensorflow.core.framework import graph_pb2

    return graph_pb2


def _node(nodes: Any, op: str, name: str, *inputs: str, **attrs: Any) -> Any:
    node = nodes.add(op=op, name=name)
    node.input.extend(inputs)
    for key, value in attrs.items():
        if isinstance(value, bool):
            node.attr[key].b = value
        elif isinstance(value, int):
            node.attr[key].type = value
        elif isinstance(value, str | bytes):
            node.attr[key].s = value.encode() if isinstance(value, str) else value
        elif isinstance(value, tuple):
            node.attr[key].func.name = value[0]
        elif isinstance(value, list):
            node.attr[key].list.type.extend(value)
        else:
            node.attr[key].tensor.CopyFrom(value)
    return node


def _const(nodes: Any, name: str, values: Any, dtype: int) -> Any:
    from tensorflow.core.framework import tensor_pb2

    tensor = tensor_pb2.TensorProto(dtype=dtype)
    if dtype == STRING:
        tensor.tensor_shape.SetInParent()
        tensor.string_val.append(values)
    else:
        array = np.asarray(values, {FLOAT: np.float32, INT32: np.int32, INT64: np.int64}[dtype])
        for dim in array.shape:
            tensor.tensor_shape.dim.add(size=dim)
        tensor.tensor_content = array.tobytes()
    return _node(nodes, "Const", name, dtype=dtype, value=tensor)


def _input(nodes: Any, name: str = "x", dims: tuple[int, ...] = (1, 4)) -> None:
    node = _node(nodes, "Placeholder", name, dtype=FLOAT)
    for dim in dims:
        node.attr["shape"].shape.dim.add(size=dim)


def graph(fill: Callable[[Any], None]) -> Any:
    """A GraphDef with an input `x`, whatever `fill` adds, and an output that reads the node `evil`."""
    result = _protos().GraphDef()
    result.versions.producer = 1087
    _input(result.node)
    fill(result)
    _node(result.node, "AddV2", "y", "x", "evil", T=FLOAT)
    return result


def _frozen(fill: Callable[[Any], None]) -> Write:
    def write(home: Path) -> Path:
        (home / "model.pb").write_bytes(graph(fill).SerializeToString())
        return home / "model.pb"

    return write


# --- operations that reach outside ------------------------------------------------------------------


def _reading(nodes: Any, op: str, prefix: str = "") -> str:
    """Add `op` with plausible inputs; returns a float tensor that depends on it."""
    path = _const(nodes, prefix + "path", b"/etc/passwd", STRING).name
    name = prefix + "op"
    if op == "WriteFile":
        _node(nodes, op, name, path, path)
        zero = _const(nodes, prefix + "zero", [0.0], FLOAT)
        zero.input.append("^" + name)
        return str(zero.name)
    if op in ("PyFunc", "PyFuncStateless", "EagerPyFunc"):
        _node(nodes, op, name, "x", token="pyfunc_0", Tin=[FLOAT], Tout=[FLOAT])
        return name
    if op == "ImmutableConst":
        _node(nodes, op, name, dtype=FLOAT, memory_region_name="/etc/passwd")
        return name
    if op == "PrintV2":
        _node(nodes, op, name, path, output_stream="file:///tmp/bnfold-pwned")
        zero = _const(nodes, prefix + "zero", [0.0], FLOAT)
        zero.input.append("^" + name)
        return str(zero.name)
    inputs = {"RestoreV2": (path, path, path), "MatchingFiles": (path,), "DebugIdentityV2": ("x",)}
    extra: dict[str, Any] = {"RestoreV2": {"dtypes": [FLOAT]}, "DebugIdentityV2": {"T": FLOAT}}.get(op, {})
    _node(nodes, op, name, *inputs.get(op, (path,)), **extra)
    if op in ("RestoreV2", "DebugIdentityV2"):
        return name
    _node(nodes, "StringToNumber", prefix + "number", name, out_type=FLOAT)
    return prefix + "number"


OPS = ("ReadFile", "WriteFile", "PyFunc", "EagerPyFunc", "ImmutableConst", "RestoreV2", "MatchingFiles", "PrintV2",
       "DebugIdentityV2", "LoadAndRemapMatrix", "RpcCall", "TFRecordDataset", "DataServiceDatasetV4",
       "CollectiveInitializeCommunicator", "KafkaDataset")  # fmt: skip


def _reads(op: str) -> Callable[[Any], None]:
    def fill(g: Any) -> None:
        result = _reading(g.node, op)
        _node(g.node, "Identity", "evil", result, T=FLOAT)

    return fill


def _top(op: str) -> Write:
    return _frozen(_reads(op))


def _function(g: Any, name: str, body: Callable[[Any], str]) -> None:
    function = g.library.function.add()
    function.signature.name = name
    function.signature.input_arg.add(name="x", type=FLOAT)
    function.signature.output_arg.add(name="out", type=FLOAT)
    result = body(function.node_def)
    function.ret["out"] = result


def _in_function(op: str) -> Write:
    def body(nodes: Any) -> str:
        result = _reading(nodes, op)
        return f"{result}:output:0"

    def fill(g: Any) -> None:
        _function(g, "inner", body)
        _node(g.node, "PartitionedCall", "evil", "x", Tin=[FLOAT], Tout=[FLOAT], f=("inner",))

    return _frozen(fill)


def _in_loop(op: str) -> Write:
    def fill(g: Any) -> None:
        _function(g, "body", lambda nodes: f"{_reading(nodes, op)}:output:0")
        _function(g, "cond", lambda nodes: f"{_const(nodes, 'c', [1.0], FLOAT).name}:output:0")
        _node(g.node, "StatelessWhile", "evil", "x", T=[FLOAT], cond=("cond",), body=("body",))

    return _frozen(fill)


# --- calls ------------------------------------------------------------------------------------------


def _call(nodes: Any, name: str, function: str, source: str = "x") -> str:
    _node(nodes, "PartitionedCall", name, source, Tin=[FLOAT], Tout=[FLOAT], f=(function,))
    return f"{name}:output:0"


def _calls(edges: dict[str, list[str]], first: str) -> Write:
    def fill(g: Any) -> None:
        for name, callees in edges.items():

            def body(nodes: Any, callees: list[str] = callees) -> str:
                result = "x"
                for index, callee in enumerate(callees):
                    result = _call(nodes, f"call{index}", callee, result)
                if not callees:
                    _node(nodes, "Relu", "relu", "x", T=FLOAT)
                    result = "relu:activations:0"
                return result

            _function(g, name, body)
        _node(g.node, "PartitionedCall", "evil", "x", Tin=[FLOAT], Tout=[FLOAT], f=(first,))

    return _frozen(fill)


def _legacy_recursion(g: Any) -> None:
    def body(nodes: Any) -> str:
        _node(nodes, "f", "again", "x")
        return "again:out:0"

    _function(g, "f", body)
    _node(g.node, "f", "evil", "x")


# --- sizes ------------------------------------------------------------------------------------------


def _splat(dims: list[int], content: bytes = b"", value: float | None = 1.0) -> Write:
    def fill(g: Any) -> None:
        from tensorflow.core.framework import tensor_pb2

        tensor = tensor_pb2.TensorProto(dtype=FLOAT, tensor_content=content)
        for dim in dims:
            tensor.tensor_shape.dim.add(size=dim)
        if value is not None:
            tensor.float_val.append(value)
        _node(g.node, "Const", "evil", dtype=FLOAT, value=tensor)

    return _frozen(fill)


def _fill(g: Any) -> None:
    _const(g.node, "dims", [1 << 18, 1 << 18], INT64)
    _const(g.node, "one", 1.0, FLOAT)
    _node(g.node, "Fill", "evil", "dims", "one", T=FLOAT, index_type=INT64)


def _range(g: Any) -> None:
    for name, value in (("start", 0), ("limit", 1 << 40), ("delta", 1)):
        _const(g.node, name, value, INT64)
    _node(g.node, "Range", "range", "start", "limit", "delta", Tidx=INT64)
    _node(g.node, "Cast", "evil", "range", SrcT=INT64, DstT=FLOAT)


def _tile(g: Any) -> None:
    _const(g.node, "base", [1.0], FLOAT)
    _const(g.node, "times", [1 << 36], INT64)
    _node(g.node, "Tile", "evil", "base", "times", T=FLOAT, Tmultiples=INT64)


def _one_hot(g: Any) -> None:
    _const(g.node, "indices", [0] * 16, INT64)
    _const(g.node, "depth", 1 << 30, INT32)
    _const(g.node, "on", 1.0, FLOAT)
    _const(g.node, "off", 0.0, FLOAT)
    _node(g.node, "OneHot", "evil", "indices", "depth", "on", "off", T=FLOAT, TI=INT64)


def _linspace(g: Any) -> None:
    _const(g.node, "a", 0.0, FLOAT)
    _const(g.node, "b", 1.0, FLOAT)
    _const(g.node, "n", 1 << 30, INT32)
    _node(g.node, "LinSpace", "evil", "a", "b", "n", T=FLOAT, Tidx=INT32)


def _broadcast(g: Any) -> None:
    _const(g.node, "one", [1.0], FLOAT)
    _const(g.node, "shape", [1 << 18, 1 << 18], INT64)
    _node(g.node, "BroadcastTo", "evil", "one", "shape", T=FLOAT, Tidx=INT64)


def _doubling(g: Any) -> None:
    _const(g.node, "v0", [1.0] * 4, FLOAT)
    _const(g.node, "axis", 0, INT32)
    for index in range(40):
        node = _node(
            g.node, "ConcatV2", f"v{index + 1}", f"v{index}", f"v{index}", "axis", T=FLOAT, Tidx=INT32
        )
        node.attr["N"].i = 2
    _node(g.node, "Identity", "evil", "v40", T=FLOAT)


def _random(g: Any) -> None:
    _const(g.node, "dims", [1 << 18, 1 << 18], INT64)
    _node(g.node, "RandomStandardNormal", "evil", "dims", T=INT64, dtype=FLOAT)


def _placeholder(*dims: int) -> Write:
    def write(home: Path) -> Path:
        g = _protos().GraphDef()
        _input(g.node, dims=dims)
        _node(g.node, "Relu", "y", "x", T=FLOAT)
        (home / "model.pb").write_bytes(g.SerializeToString())
        return home / "model.pb"

    return write


# --- structure ----------------------------------------------------------------------------------------


def _simple(op: str = "Relu", *inputs: str, name: str = "evil", **attrs: Any) -> Callable[[Any], None]:
    return lambda g: _node(g.node, op, name, *(inputs or ("x",)), **{"T": FLOAT, **attrs}) and None


def _twice(g: Any) -> None:
    for _ in range(2):
        _node(g.node, "Relu", "evil", "x", T=FLOAT)


def _cycle(g: Any) -> None:
    _node(g.node, "Relu", "evil", "b", T=FLOAT)
    _node(g.node, "Relu", "b", "evil", T=FLOAT)


def _wrong_type(g: Any) -> None:
    node = _node(g.node, "Relu", "evil", "x")
    node.attr["T"].s = b"DT_FLOAT"


def _no_attributes(g: Any) -> None:
    _node(g.node, "Conv2D", "evil", "x", "x")


def _negative_strides(g: Any) -> None:
    node = _node(g.node, "MaxPool", "evil", "x", T=FLOAT, padding="SAME")
    node.attr["ksize"].list.i.extend([1, -2, -2, 1])
    node.attr["strides"].list.i.extend([0, 0, 0, 0])


def _huge_list(g: Any) -> None:
    _simple()(g)
    g.node[-1].attr["_output_shapes"].list.i.extend([1] * 1_000_001)


def _device(g: Any) -> None:
    _simple()(g)
    g.node[-1].device = "/job:evil/task:0/device:GPU:99"


def _renamed(name: str) -> Write:
    def write(home: Path) -> Path:
        g = graph(_simple())
        for node in g.node:
            if node.name == "evil":
                node.name = name
            for index, ref in enumerate(node.input):
                if ref == "evil":
                    node.input[index] = name
        (home / "model.pb").write_bytes(g.SerializeToString())
        return home / "model.pb"

    return write


def _text(text: str) -> Write:
    def write(home: Path) -> Path:
        (home / "model.pbtxt").write_text(text)
        return home / "model.pbtxt"

    return write


# --- SavedModels and checkpoints ------------------------------------------------------------------------


def _saved(fill: Callable[[Any], None], more: Callable[[Any, Path], None] | None = None) -> Write:
    def write(home: Path) -> Path:
        from tensorflow.core.protobuf import saved_model_pb2

        model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
        meta = model.meta_graphs.add()
        meta.meta_info_def.tags.append("serve")
        meta.graph_def.CopyFrom(graph(fill))
        signature = meta.signature_def["serving_default"]
        for role, name in ((signature.inputs, "x"), (signature.outputs, "y")):
            role[name].name = f"{name}:0"
            role[name].dtype = FLOAT
        folder = home / "model"
        folder.mkdir()
        if more is not None:
            more(meta, folder)
        (folder / "saved_model.pb").write_bytes(model.SerializeToString())
        return folder

    return write


def _init_op(meta: Any, folder: Path) -> None:
    """The main op writes a file, and no output depends on it."""
    nodes = meta.graph_def.node
    _const(nodes, "file", b"/tmp/bnfold-pwned", STRING)
    _node(nodes, "WriteFile", "init", "file", "file")
    meta.collection_def["saved_model_main_op"].node_list.value.append("init")
    meta.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "init"


def _asset(name: str) -> Callable[[Any, Path], None]:
    def more(meta: Any, folder: Path) -> None:
        meta.asset_file_def.add(filename=name).tensor_info.name = "x:0"

    return more


def _objects(meta: Any, folder: Path) -> None:
    node = meta.object_graph_def.nodes.add()
    node.children.add(node_id=1 << 30, local_name="out of range")


def _signature_out(meta: Any, folder: Path) -> None:
    meta.signature_def["serving_default"].outputs["y"].name = "../../nowhere:99"


def _variable(meta: Any, folder: Path) -> None:
    nodes = meta.graph_def.node
    for node in nodes:
        if node.name == "evil":
            node.op = "VariableV2"
            del node.input[:]
            node.attr["dtype"].type = FLOAT
            node.attr["shape"].shape.dim.add(size=4)


def _table_file(meta: Any, folder: Path) -> None:
    """A lookup table that reads /etc/passwd where the signature needs it."""
    nodes = meta.graph_def.node
    _const(nodes, "file", b"/etc/passwd", STRING)
    _node(nodes, "HashTableV2", "table", key_dtype=STRING, value_dtype=INT64)
    _node(nodes, "InitializeTableFromTextFileV2", "load", "table", "file")
    for node in nodes:
        if node.name == "y":
            node.input.append("^load")


def _bundle(home: Path, index: bytes, data: bytes = b"\0" * 64, meta: bytes | None = None) -> Path:
    folder = home / "ckpt"
    folder.mkdir()
    (folder / "model.ckpt.index").write_bytes(index)
    (folder / "model.ckpt.data-00000-of-00001").write_bytes(data)
    if meta is not None:
        (folder / "model.ckpt.meta").write_bytes(meta)
    return folder


def _table(entries: dict[bytes, bytes]) -> bytes:
    """A LevelDB table with one data block and true checksums, as the bundle's index is one."""

    def varint(value: int) -> bytes:
        out = bytearray()
        while value > 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        return bytes([*out, value])

    def block(rows: dict[bytes, bytes]) -> bytes:
        body = b"".join(varint(0) + varint(len(k)) + varint(len(v)) + k + v for k, v in rows.items())
        body += struct.pack("<II", 0, 1)
        crc = _crc32c(body + b"\0")
        masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
        return body + b"\0" + struct.pack("<I", masked)

    data = block(entries)
    meta = block({})
    handle = varint(0) + varint(len(data) - 5)
    index = block({b"\xff": handle})
    footer = (
        varint(len(data)) + varint(len(meta) - 5) + varint(len(data) + len(meta)) + varint(len(index) - 5)
    )
    return data + meta + index + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _entry(dims: list[int], offset: int, size: int, shard: int = 0) -> bytes:
    from tensorflow.core.protobuf import tensor_bundle_pb2

    entry = tensor_bundle_pb2.BundleEntryProto(dtype=FLOAT, shard_id=shard, offset=offset, size=size)
    for dim in dims:
        entry.shape.dim.add(size=dim)
    return bytes(entry.SerializeToString())


def _lying_bundle(dims: list[int], offset: int = 0, size: int = 16, shard: int = 0, shards: int = 1) -> Write:
    def write(home: Path) -> Path:
        from tensorflow.core.protobuf import meta_graph_pb2, tensor_bundle_pb2

        header = tensor_bundle_pb2.BundleHeaderProto(num_shards=shards)
        index = _table({b"": header.SerializeToString(), b"evil": _entry(dims, offset, size, shard)})
        meta = meta_graph_pb2.MetaGraphDef()
        g = meta.graph_def
        _input(g.node)
        _node(g.node, "VariableV2", "evil", dtype=FLOAT)
        _node(g.node, "Identity", "read", "evil", T=FLOAT)
        _node(g.node, "AddV2", "y", "x", "read", T=FLOAT)
        return _bundle(home, index, meta=meta.SerializeToString())

    return write


def _state_file(home: Path) -> Path:
    folder = _bundle(home, b"\0" * 64)
    (folder / "checkpoint").write_text('model_checkpoint_path: "/etc/passwd"\n')
    return folder


def entries() -> Iterator[tuple[str, Write, str]]:
    """(name, writer, codes)."""
    for op in OPS:
        yield f"top_{op}", _top(op), "unsafe_op"
    for op in ("ReadFile", "WriteFile", "PyFunc", "RestoreV2", "RpcCall"):
        yield f"function_{op}", _in_function(op), "unsafe_op"
        yield f"loop_{op}", _in_loop(op), "unsafe_op"
    yield "recursion", _calls({"f": ["f"]}, "f"), "unsafe_function_recursion"
    yield "recursion_mutual", _calls({"f": ["g"], "g": ["h"], "h": ["f"]}, "f"), "unsafe_function_recursion"
    yield "recursion_by_op_name", _frozen(_legacy_recursion), "unsafe_function_recursion"
    yield (
        "call_depth",
        _calls({f"f{i}": [f"f{i + 1}"] if i < 59 else [] for i in range(60)}, "f0"),
        "unsafe_function_depth",
    )
    yield (
        "call_expansion",
        _calls({f"f{i}": [f"f{i + 1}"] * 10 if i < 9 else [] for i in range(10)}, "f0"),
        ("unsafe_function_expansion"),
    )
    yield "splat", _splat([100_000, 100_000]), "unsafe_dimensions"
    yield "splat_overflow", _splat([1 << 40, 1 << 40]), "unsafe_dimensions"
    yield "splat_wrap", _splat([1 << 32, 1 << 31, 2]), "unsafe_dimensions"
    yield "splat_rank", _splat([1] * 300), "unsafe_dimensions"
    yield "splat_negative", _splat([-4, -1]), "broken"
    yield "content_short", _splat([1024], b"\0" * 64, None), "broken"
    yield "content_long", _splat([4], b"\0" * 6400, None), "broken"
    yield "content_ragged", _splat([4], b"\0" * 15, None), "broken"
    yield "values_none", _splat([1 << 30], b"", None), "unsafe_dimensions"
    grown = {"fill": _fill, "range": _range, "tile": _tile, "one_hot": _one_hot, "linspace": _linspace,
             "broadcast": _broadcast, "doubling": _doubling, "random": _random}  # fmt: skip
    for name, fill in grown.items():
        yield f"grows_by_{name}", _frozen(fill), "unsafe_expansion"
    yield "input_huge", _placeholder(1 << 20, 1 << 20), "unsafe_dimensions"
    yield "input_overflow", _placeholder(1 << 62, 1 << 62), "unsafe_dimensions"
    yield "input_negative", _placeholder(-7, 4), "broken"
    yield "duplicate_node", _frozen(_twice), "broken"
    yield "cycle", _frozen(_cycle), "broken"
    yield "missing_node", _frozen(_simple("Relu", "nobody")), "broken"
    yield "missing_output", _frozen(_simple("Relu", "x:7")), "broken"
    yield "unknown_op", _frozen(_simple("Frobnicate")), "broken"
    yield "wrong_attribute_type", _frozen(_wrong_type), "broken"
    yield "no_attributes", _frozen(_no_attributes), "broken"
    yield "negative_strides", _frozen(_negative_strides), "broken"
    yield "attribute_items", _frozen(_huge_list), "unsafe_attribute"
    yield "foreign_device", _frozen(_device), ""
    yield "long_name", _renamed("n" * 10_000), "unsafe_name"
    yield "script_name", _renamed("<script>alert(1)</script>"), "broken"
    yield (
        "text_nested",
        _text('node { name: "a" op: "Const" ' + 'attr { key: "v" value { list { func { ' * 500),
        "broken",
    )
    yield "text_any", _text('node { name: "a" op: "A" [type.googleapis.com/x.Y] { } }'), "broken"
    yield "truncated", lambda home: _cut(_frozen(_simple())(home)), "broken"
    yield "saved_init_op", _saved(_simple(), _init_op), "unsafe_op"
    for op in ("PyFunc", "ReadFile", "ImmutableConst"):
        yield f"saved_{op}", _saved(_reads(op)), "unsafe_op"
    yield "saved_table_file", _saved(_simple(), _table_file), ""
    yield "saved_asset_parent", _saved(_simple(), _asset("../../etc/passwd")), "unsafe_asset_path"
    yield "saved_asset_absolute", _saved(_simple(), _asset("/etc/passwd")), "unsafe_asset_path"
    yield "saved_objects", _saved(_simple(), _objects), "broken"
    yield "saved_signature", _saved(_simple(), _signature_out), "broken unknown_output unknown_tensor"
    yield "saved_no_variables", _saved(_simple(), _variable), "broken"
    yield (
        "bundle_huge_shape",
        _lying_bundle([1 << 30, 1 << 20]),
        "broken unsafe_dimensions checkpoint_mismatch",
    )
    yield "bundle_past_end", _lying_bundle([4], offset=1 << 40), "broken checkpoint_mismatch"
    yield "bundle_negative", _lying_bundle([-4], offset=0), "broken checkpoint_mismatch"
    yield "bundle_size_lie", _lying_bundle([4], size=1 << 40), "broken checkpoint_mismatch"
    yield "bundle_shard", _lying_bundle([4], shard=7), "broken checkpoint_mismatch"
    yield "bundle_shards", _lying_bundle([4], shards=1 << 20), "broken checkpoint_mismatch"
    yield "bundle_noise", lambda home: _bundle(home, b"\x13" * 4096), "broken"
    yield "state_file", _state_file, "broken"


def _cut(path: Path | None) -> Path:
    assert path is not None
    path.write_bytes(path.read_bytes()[:-9])
    return path
