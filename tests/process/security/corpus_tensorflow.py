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


def protos() -> Any:
    from tensorflow.core.framework import graph_pb2

    return graph_pb2


def add_node(nodes: Any, op: str, name: str, *inputs: str, **attrs: Any) -> Any:
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


def add_const(nodes: Any, name: str, values: Any, dtype: int) -> Any:
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
    return add_node(nodes, "Const", name, dtype=dtype, value=tensor)


def add_input(nodes: Any, name: str = "x", dims: tuple[int, ...] = (1, 4)) -> None:
    node = add_node(nodes, "Placeholder", name, dtype=FLOAT)
    for dim in dims:
        node.attr["shape"].shape.dim.add(size=dim)


def graph(fill: Callable[[Any], None]) -> Any:
    """A GraphDef with an input `x`, whatever `fill` adds, and an output that reads the node `evil`."""
    result = protos().GraphDef()
    result.versions.producer = 1087
    add_input(result.node)
    fill(result)
    add_node(result.node, "AddV2", "y", "x", "evil", T=FLOAT)
    return result


def _frozen(fill: Callable[[Any], None]) -> Write:
    def write(home: Path) -> Path:
        (home / "model.pb").write_bytes(graph(fill).SerializeToString())
        return home / "model.pb"

    return write


# --- operations that reach outside ------------------------------------------------------------------


def _reading(nodes: Any, op: str, prefix: str = "") -> str:
    """Add `op` with plausible inputs; returns a float tensor that depends on it."""
    path = add_const(nodes, prefix + "path", b"/etc/passwd", STRING).name
    name = prefix + "op"
    if op == "WriteFile":
        add_node(nodes, op, name, path, path)
        zero = add_const(nodes, prefix + "zero", [0.0], FLOAT)
        zero.input.append("^" + name)
        return str(zero.name)
    if op in ("PyFunc", "PyFuncStateless", "EagerPyFunc"):
        add_node(nodes, op, name, "x", token="pyfunc_0", Tin=[FLOAT], Tout=[FLOAT])
        return name
    if op == "ImmutableConst":
        add_node(nodes, op, name, dtype=FLOAT, memory_region_name="/etc/passwd")
        return name
    if op == "PrintV2":
        add_node(nodes, op, name, path, output_stream="file:///tmp/bnfold-pwned")
        zero = add_const(nodes, prefix + "zero", [0.0], FLOAT)
        zero.input.append("^" + name)
        return str(zero.name)
    inputs = {"RestoreV2": (path, path, path), "MatchingFiles": (path,), "DebugIdentityV2": ("x",)}
    extra: dict[str, Any] = {"RestoreV2": {"dtypes": [FLOAT]}, "DebugIdentityV2": {"T": FLOAT}}.get(op, {})
    add_node(nodes, op, name, *inputs.get(op, (path,)), **extra)
    if op in ("RestoreV2", "DebugIdentityV2"):
        return name
    add_node(nodes, "StringToNumber", prefix + "number", name, out_type=FLOAT)
    return prefix + "number"


OPS = ("ReadFile", "WriteFile", "PyFunc", "EagerPyFunc", "ImmutableConst", "RestoreV2", "MatchingFiles", "PrintV2",
       "DebugIdentityV2", "LoadAndRemapMatrix", "RpcCall", "TFRecordDataset", "DataServiceDatasetV4",
       "CollectiveInitializeCommunicator", "KafkaDataset")  # fmt: skip


def reads_file(op: str) -> Callable[[Any], None]:
    def fill(g: Any) -> None:
        result = _reading(g.node, op)
        add_node(g.node, "Identity", "evil", result, T=FLOAT)

    return fill


def _top(op: str) -> Write:
    return _frozen(reads_file(op))


def add_function(g: Any, name: str, body: Callable[[Any], str]) -> None:
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
        add_function(g, "inner", body)
        add_node(g.node, "PartitionedCall", "evil", "x", Tin=[FLOAT], Tout=[FLOAT], f=("inner",))

    return _frozen(fill)


def _in_loop(op: str) -> Write:
    def fill(g: Any) -> None:
        add_function(g, "body", lambda nodes: f"{_reading(nodes, op)}:output:0")
        add_function(g, "cond", lambda nodes: f"{add_const(nodes, 'c', [1.0], FLOAT).name}:output:0")
        add_node(g.node, "StatelessWhile", "evil", "x", T=[FLOAT], cond=("cond",), body=("body",))

    return _frozen(fill)


# --- calls ------------------------------------------------------------------------------------------


def add_call(nodes: Any, name: str, function: str, source: str = "x") -> str:
    add_node(nodes, "PartitionedCall", name, source, Tin=[FLOAT], Tout=[FLOAT], f=(function,))
    return f"{name}:output:0"


def _calls(edges: dict[str, list[str]], first: str) -> Write:
    def fill(g: Any) -> None:
        for name, callees in edges.items():

            def body(nodes: Any, callees: list[str] = callees) -> str:
                result = "x"
                for index, callee in enumerate(callees):
                    result = add_call(nodes, f"call{index}", callee, result)
                if not callees:
                    add_node(nodes, "Relu", "relu", "x", T=FLOAT)
                    result = "relu:activations:0"
                return result

            add_function(g, name, body)
        add_node(g.node, "PartitionedCall", "evil", "x", Tin=[FLOAT], Tout=[FLOAT], f=(first,))

    return _frozen(fill)


def _legacy_recursion(g: Any) -> None:
    def body(nodes: Any) -> str:
        add_node(nodes, "f", "again", "x")
        return "again:out:0"

    add_function(g, "f", body)
    add_node(g.node, "f", "evil", "x")


# --- sizes ------------------------------------------------------------------------------------------


def _splat(dims: list[int], content: bytes = b"", value: float | None = 1.0) -> Write:
    def fill(g: Any) -> None:
        from tensorflow.core.framework import tensor_pb2

        tensor = tensor_pb2.TensorProto(dtype=FLOAT, tensor_content=content)
        for dim in dims:
            tensor.tensor_shape.dim.add(size=dim)
        if value is not None:
            tensor.float_val.append(value)
        add_node(g.node, "Const", "evil", dtype=FLOAT, value=tensor)

    return _frozen(fill)


def _fill(g: Any) -> None:
    add_const(g.node, "dims", [1 << 18, 1 << 18], INT64)
    add_const(g.node, "one", 1.0, FLOAT)
    add_node(g.node, "Fill", "evil", "dims", "one", T=FLOAT, index_type=INT64)


def _range(g: Any) -> None:
    for name, value in (("start", 0), ("limit", 1 << 40), ("delta", 1)):
        add_const(g.node, name, value, INT64)
    add_node(g.node, "Range", "range", "start", "limit", "delta", Tidx=INT64)
    add_node(g.node, "Cast", "evil", "range", SrcT=INT64, DstT=FLOAT)


def _tile(g: Any) -> None:
    add_const(g.node, "base", [1.0], FLOAT)
    add_const(g.node, "times", [1 << 36], INT64)
    add_node(g.node, "Tile", "evil", "base", "times", T=FLOAT, Tmultiples=INT64)


def _one_hot(g: Any) -> None:
    add_const(g.node, "indices", [0] * 16, INT64)
    add_const(g.node, "depth", 1 << 30, INT32)
    add_const(g.node, "on", 1.0, FLOAT)
    add_const(g.node, "off", 0.0, FLOAT)
    add_node(g.node, "OneHot", "evil", "indices", "depth", "on", "off", T=FLOAT, TI=INT64)


def _linspace(g: Any) -> None:
    add_const(g.node, "a", 0.0, FLOAT)
    add_const(g.node, "b", 1.0, FLOAT)
    add_const(g.node, "n", 1 << 30, INT32)
    add_node(g.node, "LinSpace", "evil", "a", "b", "n", T=FLOAT, Tidx=INT32)


def _broadcast(g: Any) -> None:
    add_const(g.node, "one", [1.0], FLOAT)
    add_const(g.node, "shape", [1 << 18, 1 << 18], INT64)
    add_node(g.node, "BroadcastTo", "evil", "one", "shape", T=FLOAT, Tidx=INT64)


def _doubling(g: Any) -> None:
    add_const(g.node, "v0", [1.0] * 4, FLOAT)
    add_const(g.node, "axis", 0, INT32)
    for index in range(40):
        node = add_node(
            g.node, "ConcatV2", f"v{index + 1}", f"v{index}", f"v{index}", "axis", T=FLOAT, Tidx=INT32
        )
        node.attr["N"].i = 2
    add_node(g.node, "Identity", "evil", "v40", T=FLOAT)


def _random(g: Any) -> None:
    add_const(g.node, "dims", [1 << 18, 1 << 18], INT64)
    add_node(g.node, "RandomStandardNormal", "evil", "dims", T=INT64, dtype=FLOAT)


def _placeholder(*dims: int) -> Write:
    def write(home: Path) -> Path:
        g = protos().GraphDef()
        add_input(g.node, dims=dims)
        add_node(g.node, "Relu", "y", "x", T=FLOAT)
        (home / "model.pb").write_bytes(g.SerializeToString())
        return home / "model.pb"

    return write


# --- structure ----------------------------------------------------------------------------------------


def _simple(op: str = "Relu", *inputs: str, name: str = "evil", **attrs: Any) -> Callable[[Any], None]:
    return lambda g: add_node(g.node, op, name, *(inputs or ("x",)), **{"T": FLOAT, **attrs}) and None


def _twice(g: Any) -> None:
    for _ in range(2):
        add_node(g.node, "Relu", "evil", "x", T=FLOAT)


def _cycle(g: Any) -> None:
    add_node(g.node, "Relu", "evil", "b", T=FLOAT)
    add_node(g.node, "Relu", "b", "evil", T=FLOAT)


def _wrong_type(g: Any) -> None:
    node = add_node(g.node, "Relu", "evil", "x")
    node.attr["T"].s = b"DT_FLOAT"


def _no_attributes(g: Any) -> None:
    add_node(g.node, "Conv2D", "evil", "x", "x")


def _negative_strides(g: Any) -> None:
    node = add_node(g.node, "MaxPool", "evil", "x", T=FLOAT, padding="SAME")
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
    add_const(nodes, "file", b"/tmp/bnfold-pwned", STRING)
    add_node(nodes, "WriteFile", "init", "file", "file")
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
    add_const(nodes, "file", b"/etc/passwd", STRING)
    add_node(nodes, "HashTableV2", "table", key_dtype=STRING, value_dtype=INT64)
    add_node(nodes, "InitializeTableFromTextFileV2", "load", "table", "file")
    for node in nodes:
        if node.name == "y":
            node.input.append("^load")


# --- SavedModels without a signature: traced functions and what they captured -----------------------------


def _spec(leaf: Any, name: str, dims: tuple[int, ...] = (-1, 4), dtype: int = FLOAT) -> None:
    leaf.tensor_spec_value.name, leaf.tensor_spec_value.dtype = name, dtype
    for dim in dims:
        leaf.tensor_spec_value.shape.dim.add(size=dim)


def _traced_base(meta: Any) -> None:
    """`__call__` is f(x, c) = x + c, which captured the object 2: the constant `captured`."""
    g, objects = meta.graph_def, meta.object_graph_def
    g.versions.producer = 1087
    add_const(g.node, "captured", [1.0, 2.0, 3.0, 4.0], FLOAT)
    function = g.library.function.add()
    function.signature.name = "f"
    for name in ("x", "c"):
        function.signature.input_arg.add(name=name, type=FLOAT)
    function.signature.output_arg.add(name="out", type=FLOAT)
    add_node(function.node_def, "AddV2", "sum", "x", "c", T=FLOAT)
    function.ret["out"] = "sum:z:0"
    objects.nodes.add().user_object.identifier = "_generic_user_object"
    objects.nodes[0].children.add(node_id=1, local_name="__call__")
    objects.nodes.add().function.concrete_functions.append("f")
    objects.nodes.add().constant.operation = "captured"
    concrete = objects.concrete_functions["f"]
    concrete.bound_inputs.append(2)
    both = concrete.canonicalized_input_signature.tuple_value
    _spec(both.values.add().tuple_value.values.add(), "x")
    both.values.add().dict_value.SetInParent()
    _spec(concrete.output_signature, "")


def _traced(change: Callable[[Any], None], tracked: Any = None) -> Write:
    """tracked: fills the bundle's object graph, beside which lies the value of `w`; without it, no bundle."""

    def write(home: Path) -> Path:
        from tensorflow.core.protobuf import saved_model_pb2

        model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
        meta = model.meta_graphs.add()
        meta.meta_info_def.tags.append("serve")
        _traced_base(meta)
        change(meta)
        folder = home / "model"
        folder.mkdir()
        (folder / "saved_model.pb").write_bytes(model.SerializeToString())
        if tracked is not None:
            _variables(folder, tracked)
        return folder

    return write


def _variables(folder: Path, tracked: Any) -> None:
    """A true bundle: `w` and an object graph, as text with its own checksums."""
    from tensorflow.core.protobuf import tensor_bundle_pb2, trackable_object_graph_pb2

    held = trackable_object_graph_pb2.TrackableObjectGraph()
    text = tracked(held) or held.SerializeToString()
    values = np.ones(4, np.float32).tobytes()
    lengths = struct.pack("<I", _masked(_crc32c(struct.pack("<I", len(text)))))
    whole = struct.pack("<I", len(text)) + lengths + text
    stored = _varint(len(text)) + lengths + text
    header = tensor_bundle_pb2.BundleHeaderProto(num_shards=1)
    header.version.producer = 1
    graph_entry = tensor_bundle_pb2.BundleEntryProto(dtype=STRING, offset=16, size=len(stored))
    graph_entry.shape.SetInParent()
    graph_entry.crc32c = _masked(_crc32c(whole))
    value_entry = tensor_bundle_pb2.BundleEntryProto(dtype=FLOAT, size=16, crc32c=_masked(_crc32c(values)))
    value_entry.shape.dim.add(size=4)
    rows = {b"": header, b"_CHECKPOINTABLE_OBJECT_GRAPH": graph_entry, b"w": value_entry}
    (folder / "variables").mkdir()
    prefix = folder / "variables" / "variables"
    prefix.with_name("variables.index").write_bytes(
        _table({key: row.SerializeToString() for key, row in rows.items()})
    )
    prefix.with_name("variables.data-00000-of-00001").write_bytes(values + stored)


def _of_variable(meta: Any) -> None:
    """The captured object is a variable with a handle, which a restore function fills from `w`."""
    nodes = meta.graph_def.node
    del meta.graph_def.node[:]
    add_node(nodes, "VarHandleOp", "w", dtype=FLOAT, shared_name="w").attr["shape"].shape.dim.add(size=4)
    for name, value in (("file", b"?"), ("names", b"w"), ("slices", b"")):
        add_const(nodes, name, value, STRING)
    restored = add_node(nodes, "RestoreV2", "restore", "file", "names", "slices", dtypes=[FLOAT])
    add_node(nodes, "AssignVariableOp", "assign", "w", restored.name, dtype=FLOAT)
    meta.graph_def.library.function[0].signature.input_arg[1].type = RESOURCE
    body = meta.graph_def.library.function[0].node_def
    add_node(body, "ReadVariableOp", "read", "c", dtype=FLOAT)
    body[0].input[1] = "read:value:0"
    held = meta.object_graph_def.nodes[2].variable
    held.dtype, held.name = FLOAT, "w"
    meta.object_graph_def.nodes[0].children.add(node_id=2, local_name="w")


def _tracked(child: int = 1, attribute: str = "VARIABLE_VALUE", key: str = "w") -> Callable[[Any], None]:
    def fill(held: Any) -> None:
        held.nodes.add().children.add(node_id=child, local_name="w")
        held.nodes[0].children.add(node_id=0, local_name="again")
        held.nodes.add().attributes.add(name=attribute, checkpoint_key=key)

    return fill


def _concrete(change: Callable[[Any], Any]) -> Callable[[Any], None]:
    return lambda meta: change(meta.object_graph_def.concrete_functions["f"]) and None


def _bound(*indices: int) -> Callable[[Any], None]:
    def change(concrete: Any) -> None:
        del concrete.bound_inputs[:]
        concrete.bound_inputs.extend(indices)

    return _concrete(change)


def _captured(change: Callable[[Any], Any]) -> Callable[[Any], None]:
    return lambda meta: change(meta.object_graph_def.nodes[2]) and None


def _argument(**fields: Any) -> Callable[[Any], None]:
    def change(concrete: Any) -> None:
        leaf = concrete.canonicalized_input_signature.tuple_value.values[0].tuple_value.values[0]
        leaf.Clear()
        _spec(leaf, **{"name": "x", **fields})

    return _concrete(change)


def _no_body(meta: Any) -> None:
    del meta.graph_def.library.function[:]


def _no_concrete(meta: Any) -> None:
    del meta.object_graph_def.concrete_functions["f"]


def _object_cycle(meta: Any) -> None:
    objects = meta.object_graph_def.nodes
    objects[0].children.add(node_id=0, local_name="self")
    objects[2].children.add(node_id=0, local_name="up")
    objects[0].children.add(node_id=2, local_name="down")


def _maker(meta: Any) -> None:
    """A resource that is its own maker, and a table that no graph has."""
    held = meta.object_graph_def.nodes[2]
    held.resource.SetInParent()
    held.children.add(node_id=2, local_name="_create_resource")
    held.children.add(node_id=1, local_name="_create_resource")


def _wide(count: int) -> Callable[[Any], None]:
    def change(concrete: Any) -> None:
        values = concrete.canonicalized_input_signature.tuple_value.values[0].tuple_value.values
        for _ in range(count):
            _spec(values.add(), "x")

    return _concrete(change)


def _wide_body(meta: Any) -> None:
    """A function that truly has 5,000 inputs of one name: names must not be searched in squares."""
    _wide(4999)(meta)
    arguments = meta.graph_def.library.function[0].signature.input_arg
    last = arguments.pop()
    for index in range(4999):
        arguments.add(name=f"x{index}", type=FLOAT)
    arguments.append(last)


def _shared_description(meta: Any) -> None:
    """Two thousand functions that share one description of a thousand arguments."""
    _wide(1000)(meta)
    meta.object_graph_def.nodes[0].children[0].local_name = "f0"
    for index in range(2000):
        node = len(meta.object_graph_def.nodes)
        meta.object_graph_def.nodes.add().function.concrete_functions.append("f")
        meta.object_graph_def.nodes[0].children.add(node_id=node, local_name=f"f{index + 1}")


def _long_path(meta: Any) -> None:
    """Names of objects that multiply: a thousand children below a long name."""
    objects = meta.object_graph_def.nodes
    objects[0].children[0].local_name = "n" * 1_000_000
    objects[1].user_object.SetInParent()
    for index in range(1000):
        objects[1].children.add(node_id=len(objects), local_name=f"{index}")
        objects.add().user_object.SetInParent()


def _nested(meta: Any) -> None:
    value = meta.object_graph_def.concrete_functions["f"].canonicalized_input_signature
    value.Clear()
    for _ in range(24):
        value = value.tuple_value.values.add()
    _spec(value, "x")


def _odd_spec(meta: Any) -> None:
    """An argument specification of the wrong kinds."""
    spec = meta.object_graph_def.nodes[1].function.function_spec.fullargspec.named_tuple_value
    for key in ("args", "defaults", "kwonlydefaults"):
        pair = spec.values.add()
        pair.key = key
        pair.value.list_value.values.add().dict_value.fields["a"].int64_value = 1
        pair.value.list_value.values.add().none_value.SetInParent()
    concrete = meta.object_graph_def.concrete_functions["f"]
    concrete.canonicalized_input_signature.tuple_value.values[0].tuple_value.values.add().bool_value = True


def _traced_expansion(meta: Any) -> None:
    """Small alone and never called by the graph: 10^9 nodes once the traced function is."""
    library = meta.graph_def.library
    for level in range(10):
        function = library.function.add()
        function.signature.name = f"g{level}"
        function.signature.input_arg.add(name="x", type=FLOAT)
        function.signature.output_arg.add(name="out", type=FLOAT)
        result = "x"
        for index in range(10):
            if level < 9:
                result = add_call(function.node_def, f"call{index}", f"g{level + 1}", result)
            else:
                add_node(function.node_def, "Relu", f"relu{index}", result, T=FLOAT)
                result = f"relu{index}:activations:0"
        function.ret["out"] = result
    first = library.function[0]
    first.ret["out"] = add_call(first.node_def, "call", "g0", "sum:z:0")


def _traced_op(meta: Any) -> None:
    function = meta.graph_def.library.function[0]
    function.ret["out"] = f"{_reading(function.node_def, 'PyFunc')}:output:0"


def _traced_self(meta: Any) -> None:
    function = meta.graph_def.library.function[0]
    add_node(
        function.node_def, "PartitionedCall", "again", "x", "c", Tin=[FLOAT, FLOAT], Tout=[FLOAT], f=("f",)
    )
    function.ret["out"] = "again:output:0"


def _resized(text: bytes) -> Callable[[Any], bytes]:
    return lambda held: text


def _traced_entries() -> Iterator[tuple[str, Write, str]]:
    yield "good", _traced(lambda meta: None), ""
    yield "object_cycle", _traced(_object_cycle), ""
    yield "odd_names", _traced(_argument(name="../<b>\x1b[31m:0")), ""
    yield "odd_spec", _traced(_odd_spec), ""
    yield "nested", _traced(_nested), "function_arity broken ok"
    for name, index in (("far", 99), ("negative", -1), ("huge", (1 << 31) - 1)):
        yield f"bound_{name}", _traced(_bound(index)), "dangling_reference"
    yield "bound_root", _traced(_bound(0)), "unsupported_resource"
    yield "bound_function", _traced(_bound(1)), "unsupported_resource"
    yield "bound_none", _traced(_bound()), "function_arity"
    yield "bound_many", _traced(_bound(*[2] * 1000)), "function_arity"
    yield (
        "constant_missing",
        _traced(_captured(lambda held: setattr(held.constant, "operation", "no"))),
        "dangling_reference",
    )
    yield (
        "constant_is_none",
        _traced(_captured(lambda held: setattr(held.constant, "operation", ""))),
        "dangling_reference",
    )
    yield (
        "asset_far",
        _traced(_captured(lambda held: setattr(held.asset, "asset_file_def_index", 7))),
        "dangling_reference",
    )
    yield (
        "asset_negative",
        _traced(_captured(lambda held: setattr(held.asset, "asset_file_def_index", -7))),
        "dangling_reference",
    )
    yield (
        "variable_nowhere",
        _traced(_captured(lambda held: setattr(held.variable, "name", "w"))),
        "missing_variables",
    )
    yield "resource", _traced(_captured(lambda held: held.resource.SetInParent())), "unsupported_resource"
    yield "resource_maker", _traced(_maker), "unsupported_resource"
    yield (
        "captured_tensor",
        _traced(_captured(lambda held: setattr(held.captured_tensor, "name", "x"))),
        "unsupported_resource",
    )
    yield "no_body", _traced(_no_body), "missing_function"
    yield "no_concrete", _traced(_no_concrete), "missing_function"
    yield "wrong_type", _traced(_argument(dtype=INT32)), "function_arity"
    yield "unknown_type", _traced(_argument(dtype=777)), "no_signature"
    yield "resource_argument", _traced(_argument(dtype=RESOURCE)), "no_signature"
    yield "huge_argument", _traced(_argument(dims=(1 << 20, 1 << 20))), "unsafe_dimensions"
    yield "deep_argument", _traced(_argument(dims=(1,) * 300)), "unsafe_dimensions"
    yield "negative_argument", _traced(_argument(dims=(-7, 4))), ""
    yield "wide", _traced(_wide(200_000)), "function_arity unsafe_graph_size"
    yield "wide_body", _traced(_wide_body), "unsafe_graph_size"
    yield "shared_description", _traced(_shared_description), "unsafe_graph_size"
    yield "long_path", _traced(_long_path), "no_signature"
    yield "expansion", _traced(_traced_expansion), "unsafe_function_expansion"
    yield "op", _traced(_traced_op), "unsafe_op"
    yield "recursion", _traced(_traced_self), "unsafe_function_recursion"
    yield "variable", _traced(_of_variable, _tracked()), ""
    yield "variable_unbundled", _traced(_of_variable), "missing_weights"
    for name, tracked in (("far", _tracked(child=99)), ("cycle", _tracked(child=0)), ("negative", _tracked(child=-1)),
                          ("attribute", _tracked(attribute="x")), ("key", _tracked(key="nobody"))):  # fmt: skip
        yield f"variable_{name}", _traced(_of_variable, tracked), "missing_variables"
    yield "variable_noise", _traced(_of_variable, _resized(b"\x0a\xff\xff")), "corrupt_checkpoint"
    yield "variable_no_objects", _traced(_of_variable, _resized(b"\x12\x00")), "corrupt_checkpoint"


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
    varint = _varint

    def block(rows: dict[bytes, bytes]) -> bytes:
        body = b"".join(varint(0) + varint(len(k)) + varint(len(v)) + k + v for k, v in rows.items())
        body += struct.pack("<II", 0, 1)
        return body + b"\0" + struct.pack("<I", _masked(_crc32c(body + b"\0")))

    data = block(entries)
    meta = block({})
    handle = varint(0) + varint(len(data) - 5)
    index = block({b"\xff": handle})
    footer = (
        varint(len(data)) + varint(len(meta) - 5) + varint(len(data) + len(meta)) + varint(len(index) - 5)
    )
    return data + meta + index + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _masked(crc: int) -> int:
    """A checksum as TensorFlow and LevelDB store it."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


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
        add_input(g.node)
        add_node(g.node, "VariableV2", "evil", dtype=FLOAT)
        add_node(g.node, "Identity", "read", "evil", T=FLOAT)
        add_node(g.node, "AddV2", "y", "x", "read", T=FLOAT)
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
        yield f"saved_{op}", _saved(reads_file(op)), "unsafe_op"
    yield "saved_table_file", _saved(_simple(), _table_file), ""
    yield "saved_asset_parent", _saved(_simple(), _asset("../../etc/passwd")), "unsafe_asset_path"
    yield "saved_asset_absolute", _saved(_simple(), _asset("/etc/passwd")), "unsafe_asset_path"
    yield "saved_objects", _saved(_simple(), _objects), "broken"
    yield "saved_signature", _saved(_simple(), _signature_out), "broken unknown_output unknown_tensor"
    for name, write, codes in _traced_entries():
        yield f"traced_{name}", write, codes
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
