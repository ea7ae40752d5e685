"""ONNX models that expand, loop, lie about sizes, or point at files that are not theirs."""

# A table of one case a line reads better than wrapped brackets.
# ruff: noqa: E501

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

Write = Callable[[Path], Path | None]
X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
OPSET = [helper.make_opsetid("", 17)]


def _graph(nodes: list[Any], initializers: list[Any] | None = None, **more: Any) -> Any:
    return helper.make_graph(nodes, more.pop("name", "g"), more.pop("inputs", [X]), more.pop("outputs", [Y]),
                             initializers or [], **more)  # fmt: skip


def _model(graph: Any, functions: list[Any] | None = None, opsets: list[Any] | None = None) -> Any:
    return helper.make_model(graph, opset_imports=opsets or OPSET, functions=functions or [], ir_version=8)


def _saved(make: Callable[[], Any], name: str = "model.onnx") -> Write:
    def write(home: Path) -> Path:
        model = make()
        (home / name).write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        return home / name

    return write


def _nodes(*nodes: Any, initializers: list[Any] | None = None) -> Write:
    return _saved(lambda: _model(_graph(list(nodes), initializers)))


def _ints(name: str, values: list[int]) -> Any:
    return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)


def _scalar(name: str, value: int) -> Any:
    return helper.make_tensor(name, TensorProto.INT64, [], [value])


# --- functions --------------------------------------------------------------------------------------


def _function(name: str, callee: str | None, times: int = 1, domain: str = "own") -> Any:
    if callee is None:
        nodes = [helper.make_node("Relu", ["a"], ["b"])]
    else:
        names = ["a", *(f"t{i}" for i in range(times - 1)), "b"]
        nodes = [helper.make_node(callee, [names[i]], [names[i + 1]], domain=domain) for i in range(times)]
    return helper.make_function(domain, name, ["a"], ["b"], nodes, [*OPSET, helper.make_opsetid(domain, 1)])


def _called(functions: list[Any]) -> Any:
    graph = _graph([helper.make_node(functions[0].name, ["x"], ["y"], domain="own")])
    return _model(graph, functions, [*OPSET, helper.make_opsetid("own", 1)])


def _expansion() -> Any:
    """Ten calls of a function that makes ten calls, nine deep: 10^9 nodes in 2 KB."""
    return _called([_function(f"f{i}", f"f{i + 1}" if i < 9 else None, 10) for i in range(10)])


def _deep_functions() -> Any:
    return _called([_function(f"f{i}", f"f{i + 1}" if i < 49 else None) for i in range(50)])


# --- loops ------------------------------------------------------------------------------------------


def loop_model(trips: int, depth: int = 1) -> Any:
    body_nodes = [helper.make_node("Identity", ["c"], ["c_out"]), helper.make_node("Relu", ["v"], ["v_out"])]
    for _ in range(depth - 1):
        inner = _body(body_nodes)
        body_nodes = [
            helper.make_node("Identity", ["c"], ["c_out"]),
            helper.make_node("Loop", ["m", "c", "v"], ["v_out"], body=inner),
        ]
    loop = helper.make_node("Loop", ["m", "t", "x"], ["y"], body=_body(body_nodes))
    constants = [_scalar("m", trips), helper.make_tensor("t", TensorProto.BOOL, [], [True])]
    return _model(_graph([loop], constants))


def _body(nodes: list[Any]) -> Any:
    i = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    c = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    v = helper.make_tensor_value_info("v", TensorProto.FLOAT, None)
    c_out = helper.make_tensor_value_info("c_out", TensorProto.BOOL, [])
    v_out = helper.make_tensor_value_info("v_out", TensorProto.FLOAT, None)
    return helper.make_graph(nodes, "body", [i, c, v], [c_out, v_out])


def _nested_ifs() -> Any:
    def leaf() -> Any:
        return _graph([helper.make_node("Identity", ["x"], ["y"])], inputs=[])

    branch = leaf()
    for _ in range(24):
        branch = _graph(
            [helper.make_node("If", ["t"], ["y"], then_branch=branch, else_branch=leaf())], inputs=[]
        )
    return _model(_graph(list(branch.node), [helper.make_tensor("t", TensorProto.BOOL, [], [True])]))


# --- tensors ------------------------------------------------------------------------------------------


def _tensor(dims: list[int], raw: bytes | None = None, kind: int = TensorProto.FLOAT, name: str = "w") -> Any:
    tensor = TensorProto(name=name, data_type=kind)
    tensor.dims.extend(dims)
    if raw is not None:
        tensor.raw_data = raw
    return tensor


def _weight(tensor: Any) -> Write:
    return _nodes(helper.make_node("Add", ["x", "w"], ["y"]), initializers=[tensor])


def _external(location: str, offset: str = "0", length: str = "16", prepare: Callable[[Path], None] | None = None,
              more: tuple[tuple[str, str], ...] = ()) -> Write:  # fmt: skip
    def write(home: Path) -> Path:
        tensor = _tensor([1, 4])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", length), *more):
            tensor.external_data.add(key=key, value=value)
        model = _model(_graph([helper.make_node("Add", ["x", "w"], ["y"])], [tensor]))
        folder = home / "m"
        folder.mkdir()
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        (folder / "w.bin").write_bytes(np.ones(4, np.float32).tobytes())
        (home / "outside.bin").write_bytes(b"0" * 16)
        if prepare is not None:
            prepare(folder)
        return folder / "model.onnx"

    return write


def _hard_link(folder: Path) -> None:
    os.link(folder.parent / "outside.bin", folder / "hard.bin")


def _soft_link(folder: Path) -> None:
    (folder / "soft.bin").symlink_to("/etc/passwd")


def _link_folder(folder: Path) -> None:
    (folder / "d").symlink_to("/etc")


def _data_folder(folder: Path) -> None:
    (folder / "dir.bin").mkdir()


def _fifo(folder: Path) -> None:
    os.mkfifo(folder / "pipe.bin")


def _sparse() -> Any:
    sparse = onnx.SparseTensorProto()
    sparse.values.CopyFrom(helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0]))
    sparse.indices.CopyFrom(helper.make_tensor("i", TensorProto.INT64, [1], [0]))
    sparse.dims.extend([1 << 20, 1 << 20])
    graph = _graph([helper.make_node("Add", ["x", "w"], ["y"])])
    graph.sparse_initializer.append(sparse)
    return _model(graph)


def _doubling() -> Any:
    nodes = [helper.make_node("Concat", [f"v{i}", f"v{i}"], [f"v{i + 1}"], axis=0) for i in range(40)]
    nodes.append(helper.make_node("Add", ["x", "v40"], ["y"]))
    return _model(_graph(nodes, [helper.make_tensor("v0", TensorProto.FLOAT, [4], [1.0] * 4)]))


def _node_bomb(count: int) -> Any:
    nodes = [helper.make_node("Relu", ["x"], [f"n{i}"]) for i in range(count)]
    return _model(_graph([*nodes, helper.make_node("Relu", ["x"], ["y"])]))


def _deep_protobuf() -> bytes:
    """GraphProto in an attribute in a node in a GraphProto ..., 3,000 deep."""
    inner = b""
    for _ in range(3000):
        attribute = _field(6, inner) + b"\xa0\x01\x05"
        node = _field(1, b"x") + _field(2, b"y") + _field(4, b"If") + _field(5, attribute)
        inner = _field(1, node)
    return b"\x08\x08" + _field(7, inner) + _field(8, b"\x10\x11")


def _field(number: int, body: bytes) -> bytes:
    size = len(body)
    out = bytes([number << 3 | 2])
    while size > 0x7F:
        out += bytes([size & 0x7F | 0x80])
        size >>= 7
    return out + bytes([size]) + body


def _cycle() -> Any:
    return _model(_graph([helper.make_node("Relu", ["b"], ["a"]), helper.make_node("Relu", ["a"], ["b"]),
                          helper.make_node("Add", ["x", "a"], ["y"])]))  # fmt: skip


def _called_with_too_much() -> Any:
    """The checker passes a call that has more inputs than its function; inlining trips over it."""
    model = _called([_function("f", None)])
    for node in model.graph.node:
        if node.op_type == "f":
            node.input.extend(["x", "x"])
    return model


def _named(name: str) -> Any:
    nodes = [helper.make_node("Relu", ["x"], [name], name=name), helper.make_node("Relu", [name], ["y"])]
    return _model(_graph(nodes, name=name))


def _harmful(op: str, domain: str = "com.microsoft", **attributes: Any) -> Write:
    def make() -> Any:
        node = helper.make_node(op, ["x"], ["y"], domain=domain, **attributes)
        return _model(_graph([node]), opsets=[*OPSET, helper.make_opsetid(domain, 1)])

    return _saved(make)


def _in_body(op: str, domain: str) -> Any:
    nodes = [helper.make_node("Identity", ["c"], ["c_out"]),
             helper.make_node(op, ["v"], ["v_out"], domain=domain)]  # fmt: skip
    loop = helper.make_node("Loop", ["m", "t", "x"], ["y"], body=_body(nodes))
    constants = [_scalar("m", 2), helper.make_tensor("t", TensorProto.BOOL, [], [True])]
    return _model(_graph([loop], constants), opsets=[*OPSET, helper.make_opsetid(domain, 1)])


def _wrong_attribute() -> Any:
    node = helper.make_node("Concat", ["x", "x"], ["y"], axis=0)
    node.attribute[0].ClearField("i")
    node.attribute[0].type = onnx.AttributeProto.STRING
    node.attribute[0].s = b"zero"
    return _model(_graph([node]))


def _input(dims: list[int]) -> Write:
    def make() -> Any:
        big = helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)
        return _model(_graph([helper.make_node("Relu", ["x"], ["y"])], inputs=[big]))

    return _saved(make)


# Operators that an adapter of the version converter rewrites, and a version from before it.
_CONVERTED = (
    ("Upsample", 6), ("Upsample", 8), ("Cast", 5), ("Cast", 8), ("BatchNormalization", 5), ("BatchNormalization", 8),
    ("Dropout", 6), ("Dropout", 11), ("Softmax", 12), ("Squeeze", 12), ("Unsqueeze", 12), ("Split", 12),
    ("ReduceSum", 12), ("Slice", 9), ("TopK", 9), ("Resize", 10), ("Reshape", 4), ("Sum", 7), ("Add", 6), ("Gemm", 6),
    ("MaxPool", 7), ("Scan", 8), ("Clip", 10), ("Pad", 10), ("Flatten", 8), ("ArgMax", 11), ("Reshape", 13),
)  # fmt: skip


def _bare(operator: str, version: int) -> Any:
    """A model of one node that lacks all of its inputs."""
    node = helper.make_node(operator, [], ["y"])
    return _model(_graph([node]), opsets=[helper.make_opsetid("", version)])


def _not_text(where: str) -> bytes:
    """A model in which one kind of name is cut in the middle of a character."""
    node = helper.make_node("operator", ["x", "tensor"], ["value"], "node", domain="domain", attribute=1.0)
    value = helper.make_tensor_value_info("x", 1, ["dimension"])
    model = _model(_graph([node], [helper.make_tensor("tensor", 1, [1], [1.0])], inputs=[value]))
    model.graph.doc_string = "document"
    helper.set_model_props(model, {"key": "1"})
    whole = where.encode()
    stored: bytes = model.SerializeToString().replace(whole, whole[:-1] + b"\xc3")
    return stored


def _not_text_location() -> bytes:
    node = helper.make_node("Add", ["x", "w"], ["y"])
    tensor = TensorProto(name="w", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    stored: bytes = _model(_graph([node], [tensor])).SerializeToString().replace(b"w.bin", b"w.bi\xff")
    return stored


def entries() -> Iterator[tuple[str, Write, str]]:
    """(name, writer, codes)."""
    dims, grow, data = "unsafe_dimensions", "unsafe_expansion", "unsafe_external_data"
    broken = "broken"
    yield "function_expansion", _saved(_expansion), "unsafe_function_expansion"
    yield "function_recursion", _saved(lambda: _called([_function("f", "f")])), "unsafe_function_recursion"
    yield "function_mutual", _saved(lambda: _called([_function("f", "g"), _function("g", "f")])
                                    ), "unsafe_function_recursion"  # fmt: skip
    yield "function_depth", _saved(_deep_functions), "unsafe_function_depth"
    yield "function_twice", _saved(lambda: _called([_function("f", None), _function("f", None)])), broken
    yield "function_inputs", _saved(_called_with_too_much), broken
    yield "loop_forever", _saved(lambda: loop_model(1 << 40)), "unsafe_loop"
    yield "loop_nested", _saved(lambda: loop_model(1_000, 4)), "unsafe_loop"
    yield "nested_bodies", _saved(_nested_ifs), "unsafe_subgraph_depth"
    yield "deep_protobuf", _saved(_deep_protobuf), broken
    yield "dims_overflow", _weight(_tensor([1 << 40, 1 << 40], b"\0" * 16)), dims
    yield "dims_wrap", _weight(_tensor([1 << 32, 1 << 32], b"")), dims
    yield "dims_rank", _weight(_tensor([1] * 500, b"\0" * 4)), dims
    yield "dims_negative", _weight(_tensor([-1, -4], b"\0" * 16)), broken
    yield "dims_too_many_bytes", _weight(_tensor([1, 4], b"\0" * 4096)), broken
    yield "dims_too_few_bytes", _weight(_tensor([1, 4096], b"\0" * 16)), broken
    yield "dims_no_bytes", _weight(_tensor([1 << 28])), broken
    yield "unknown_element_type", _weight(_tensor([4], b"\0" * 16, 99)), broken
    yield "string_raw_data", _weight(_tensor([4], b"\0" * 16, TensorProto.STRING)), broken
    yield "input_huge", _input([1 << 20, 1 << 20]), dims
    yield "input_overflow", _input([(1 << 62), (1 << 62)]), dims
    yield "constant_of_shape", _nodes(helper.make_node("ConstantOfShape", ["s"], ["w"]),
                                      helper.make_node("Add", ["x", "w"], ["y"]),
                                      initializers=[_ints("s", [1 << 20, 1 << 20])]), grow  # fmt: skip
    yield "expand", _nodes(helper.make_node("Expand", ["w", "s"], ["e"]), helper.make_node("Add", ["x", "e"], ["y"]),
                           initializers=[helper.make_tensor("w", 1, [1], [1.0]), _ints("s", [1 << 36])]), grow  # fmt: skip
    yield "expand_input", _nodes(helper.make_node("Expand", ["x", "s"], ["y"]),
                                 initializers=[_ints("s", [1 << 34, 1, 4])]), grow  # fmt: skip
    yield "tile", _nodes(helper.make_node("Tile", ["w", "s"], ["e"]), helper.make_node("Add", ["x", "e"], ["y"]),
                         initializers=[helper.make_tensor("w", 1, [1], [1.0]), _ints("s", [1 << 36])]), grow  # fmt: skip
    yield "range", _nodes(helper.make_node("Range", ["a", "b", "c"], ["r"]), helper.make_node("Cast", ["r"], ["y"], to=1),
                          initializers=[_scalar("a", 0), _scalar("b", 1 << 40), _scalar("c", 1)]), grow  # fmt: skip
    yield "one_hot", _nodes(helper.make_node("OneHot", ["i", "d", "v"], ["y"]),
                            initializers=[_ints("i", [0] * 64), _scalar("d", 1 << 36),
                                          helper.make_tensor("v", 1, [2], [0.0, 1.0])]), grow  # fmt: skip
    yield "pad", _nodes(helper.make_node("Pad", ["x", "p"], ["y"]),
                        initializers=[_ints("p", [0, 0, 0, 1 << 40])]), grow  # fmt: skip
    yield "random", _nodes(helper.make_node("RandomNormal", [], ["y"], shape=[1 << 20, 1 << 20])), grow
    yield "concat_doubling", _saved(_doubling), grow
    yield "sparse", _saved(_sparse), dims
    yield "external_absolute", _external("/etc/passwd"), data
    yield "external_parent", _external("../outside.bin"), data
    yield "external_hidden_parent", _external("d/../../outside.bin"), data
    yield "external_backslash", _external("..\\outside.bin"), data
    yield "external_symlink", _external("soft.bin", prepare=_soft_link), data
    yield "external_symlink_folder", _external("d/passwd", prepare=_link_folder), data
    yield "external_hard_link", _external("hard.bin", prepare=_hard_link), data
    yield "external_fifo", _external("pipe.bin", prepare=_fifo), data
    yield "external_folder", _external("dir.bin", prepare=_data_folder), data
    yield "external_missing", _external("absent.bin"), "external_data_missing"
    yield "external_nul", _external("w.bin\0x"), data
    yield "external_empty", _external(""), data
    yield "external_device", _external("/dev/zero"), data
    yield "external_proc", _external("/proc/self/environ"), data
    yield "external_memory", _external("*/_ORT_MEM_ADDR_/*", offset="94012345678"), data
    yield "external_past_end", _external("w.bin", offset="8"), "external_data_out_of_range"
    yield "external_negative_offset", _external("w.bin", offset="-8"), data
    yield "external_negative_length", _external("w.bin", length="-16"), data
    yield "external_huge_offset", _external("w.bin", offset=str(1 << 63)), "external_data_out_of_range"
    yield "external_words", _external("w.bin", offset="zero"), broken
    yield "external_short", _external("w.bin", length="4"), broken
    # CVE-2026-34445: keys that become attributes of the reader's own object
    for key in ("__class__", "__dict__", "basepath", "evil"):
        yield (
            f"external_key_{key.strip('_')}",
            _external("w.bin", more=((key, "9" * 30),)),
            f"{data} {broken}",
        )
    yield "external_key_twice", _external("w.bin", more=(("location", "../outside.bin"),)), f"{data} {broken}"
    # CVE-2026-44512: the version converter reads inputs that a node does not have
    for operator, version in _CONVERTED:
        yield (
            f"no_inputs_{operator.lower()}_{version}",
            _saved(lambda o=operator, v=version: _bare(o, v)),
            broken,
        )
    yield "foreign_domain", _harmful("Evil", "evil.example"), broken
    yield "foreign_domain_in_loop", _saved(lambda: _in_body("Evil", "evil.example")), broken
    yield "python_op", _harmful("PythonOp"), "unsafe_op"
    yield "aten", _harmful("ATen"), "unsafe_op"
    yield "compiled_context", _harmful("EPContext", ep_cache_context="/etc/passwd"), "unsafe_op"
    yield "python_op_in_loop", _saved(lambda: _in_body("PythonOp", "com.microsoft")), "unsafe_op"
    yield "cycle", _saved(_cycle), broken
    yield (
        "duplicate_output",
        _nodes(helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["y"])),
        broken,
    )
    yield "duplicate_initializer", _nodes(helper.make_node("Add", ["x", "w"], ["y"]),
                                          initializers=[helper.make_tensor("w", 1, [1], [1.0])] * 2), broken  # fmt: skip
    yield "missing_input", _nodes(helper.make_node("Add", ["x", "nothing"], ["y"])), broken
    yield "no_output", _saved(lambda: _model(_graph([helper.make_node("Relu", ["x"], ["q"])]))), broken
    yield "wrong_attribute", _saved(_wrong_attribute), broken
    yield "unknown_op", _nodes(helper.make_node("Frobnicate", ["x"], ["y"])), broken
    yield "opset_far", _saved(lambda: _model(_graph([helper.make_node("Relu", ["x"], ["y"])]),
                                             opsets=[helper.make_opsetid("", 1 << 40)])), broken  # fmt: skip
    yield "opset_negative", _saved(lambda: _model(_graph([helper.make_node("Relu", ["x"], ["y"])]),
                                                  opsets=[helper.make_opsetid("", -5)])), broken  # fmt: skip
    yield "long_name", _saved(lambda: _named("n" * 100_000)), "unsafe_name"
    yield "script_name", _saved(lambda: _named("<script>alert(document.cookie)</script>")), ""
    yield "image_name", _saved(lambda: _named('"><img src=x onerror=alert(1)>')), ""
    yield "control_name", _saved(lambda: _named("\x1b]0;owned\x07\r\nSet-Cookie: a=b")), ""
    yield "path_name", _saved(lambda: _named("../../../../tmp/owned")), ""
    yield "template_name", _saved(lambda: _named("{{7*7}}${7*7}")), ""
    # string fields of ONNX may hold any bytes, and Python hands such ones out as bytes
    for what in (
        "node",
        "operator",
        "value",
        "dimension",
        "domain",
        "attribute",
        "tensor",
        "key",
        "document",
    ):
        yield f"not_text_{what}", _saved(lambda w=what: _not_text(w)), broken
    yield "external_not_text", _saved(_not_text_location), broken
    yield "truncated", _saved(lambda: _named("t").SerializeToString()[:-7]), broken
    yield "many_nodes", _saved(lambda: _node_bomb(5_000)), ""
