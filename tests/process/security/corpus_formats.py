"""TensorFlow Lite and TensorFlow.js files with lying offsets, cycles, huge dimensions, and paths that lead away."""

# A table of one case a line reads better than wrapped brackets.
# ruff: noqa: E501

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.support import tflite_files as files

Write = Callable[[Path], Path | None]


def _saved(make: Callable[[], bytes], name: str = "model.tflite") -> Write:
    def write(home: Path) -> Path:
        (home / name).write_bytes(make())
        return home / name

    return write


def _dense(change: Callable[[Any], None]) -> Write:
    return _saved(lambda: files.dense(change))


def _patched(at: int, value: int) -> Write:
    """A good file with one word of it replaced; negative `at` counts from the root table."""

    def make() -> bytes:
        data = bytearray(files.quantized())
        place = at if at >= 0 else struct.unpack_from("<I", data, 0)[0] - at - 1
        struct.pack_into("<I", data, place, value)
        return bytes(data)

    return _saved(make)


def _main(made: Any) -> Any:
    return made.subgraphs[0]


def _set(tensor: int, **fields: Any) -> Write:
    def change(made: Any) -> None:
        for name, value in fields.items():
            setattr(_main(made).tensors[tensor], name, value)

    return _dense(change)


def _operator(**fields: Any) -> Write:
    def change(made: Any) -> None:
        for name, value in fields.items():
            setattr(_main(made).operators[0], name, value)

    return _dense(change)


def _endless(made: Any) -> None:
    """A subgraph whose loop is itself."""
    options = schema.WhileOptionsT()
    options.condSubgraphIndex = options.bodySubgraphIndex = 1
    made.operatorCodes.append(files.code(files.OPERATORS.WHILE))
    inner = files.operator(1, [0], [1], schema.BuiltinOptions.WhileOptions, options)
    made.subgraphs.append(
        files.graph([files.tensor("a", (1, 3)), files.tensor("c", (1, 3))], [inner], [0], [1], "body")
    )


def _fill(made: Any) -> None:
    made.operatorCodes.append(files.code(files.OPERATORS.FILL))
    made.buffers += [
        files.buffer(np.array([2**15, 2**15, 2**9], np.int32)),
        files.buffer(np.zeros(1, np.float32)),
    ]
    _main(made).tensors += [
        files.tensor("dims", (3,), buffer=3, kind=schema.TensorType.INT32), files.tensor("v", (), buffer=4), files.tensor("f", ()),
    ]  # fmt: skip
    _main(made).operators.append(files.operator(1, [4, 5], [6]))
    _main(made).outputs = [6]


def _custom(name: str) -> Write:
    return _dense(lambda made: made.operatorCodes.__setitem__(0, files.code(files.OPERATORS.CUSTOM, name)))


def tflite() -> Iterator[tuple[str, Write, str]]:
    yield "tflite-header-only", _saved(lambda: b"\x10\0\0\0TFL3" + bytes(24)), "corrupt_tflite"
    yield "tflite-root-outside", _patched(0, 0x7FFFFFFF), "corrupt_tflite"
    yield "tflite-root-to-itself", _patched(0, 0), "corrupt_tflite"
    yield "tflite-fields-before-the-file", _patched(-1, 0x7FFFFFFF), "corrupt_tflite"
    yield "tflite-huge-dims", _set(0, shape=np.array([2**31 - 1] * 4, np.int32)), "unsafe_dimensions"
    yield "tflite-rank", _set(0, shape=np.ones(4000, np.int32)), "unsafe_dimensions"
    yield (
        "tflite-constant-larger-than-its-buffer",
        _set(1, shape=np.array([2**14, 2**14], np.int32)),
        "corrupt_tflite",
    )
    yield "tflite-negative-dimension", _set(1, shape=np.array([-3, 4], np.int32)), "corrupt_tflite"
    yield "tflite-no-such-buffer", _set(1, buffer=77), "corrupt_tflite"
    yield (
        "tflite-string-offsets",
        _dense(lambda m: (setattr(_main(m).tensors[1], "type", schema.TensorType.STRING),)),
        "corrupt_tflite",
    )
    yield "tflite-tensor-index", _operator(inputs=[0, 1, 2**31 - 1]), "corrupt_tflite"
    yield "tflite-negative-index", _operator(outputs=[-(2**31)]), "corrupt_tflite"
    yield "tflite-cycle", _operator(inputs=[3, 1, 2]), "corrupt_tflite"
    yield "tflite-overwrites-a-constant", _operator(outputs=[1]), "corrupt_tflite"
    yield "tflite-loop-of-itself", _dense(_endless), "unsafe_function_recursion"
    yield "tflite-fill", _dense(_fill), "unsafe_expansion"
    yield "tflite-long-name", _set(0, name="n" * 100_000), "unsafe_name"
    yield "tflite-flex-reads-a-file", _custom("FlexReadFile"), "unsafe_op"
    yield "tflite-custom-operator", _custom("../../evil\u202e"), "unsupported_op"
    yield (
        "tflite-cut-in-half",
        _saved(lambda: files.quantized()[: len(files.quantized()) // 2]),
        "corrupt_tflite",
    )
    yield "tflite-zeros", _saved(lambda: files.quantized()[:8] + bytes(5000)), "corrupt_tflite"


def _tfjs(spoil: Callable[[dict[str, Any]], Any], *, more: dict[str, bytes] | None = None) -> Write:
    def write(home: Path) -> Path:
        document: dict[str, Any] = {
            "format": "graph-model",
            "modelTopology": {"node": [
                {"name": "x", "op": "Placeholder", "attr": {"dtype": {"type": "DT_FLOAT"}, "shape": {"shape": {"dim": [{"size": "1"}, {"size": "4"}]}}}},
                {"name": "w", "op": "Const", "attr": {"dtype": {"type": "DT_FLOAT"}}},
                {"name": "y", "op": "AddV2", "input": ["x", "w"], "attr": {"T": {"type": "DT_FLOAT"}}},
            ]},
            "weightsManifest": [{"paths": ["w.bin"], "weights": [{"name": "w", "shape": [4], "dtype": "float32"}]}],
        }  # fmt: skip
        spoil(document)
        (home / "w.bin").write_bytes(bytes(16))
        (home / "model.json").write_text(json.dumps(document))
        for name, data in (more or {}).items():
            (home / name).write_bytes(data)
        return home

    return write


def _paths(*paths: str) -> Write:
    return _tfjs(lambda d: d["weightsManifest"][0].update(paths=list(paths)))


def _weight(**fields: Any) -> Write:
    return _tfjs(lambda d: d["weightsManifest"][0]["weights"][0].update(fields))


def _node(**fields: Any) -> Write:
    return _tfjs(lambda d: d["modelTopology"]["node"][2].update(fields))


def _link(home: Path) -> Path:
    _paths("out.bin")(home)
    (home / "out.bin").symlink_to("/etc/passwd")
    return home


def _bomb(home: Path) -> Path:
    """A model.json that inflates past every limit."""
    (home / "model.json").write_bytes(gzip.compress(b'{"modelTopology": "' + b"a" * (80 << 20)))
    return home


def tfjs() -> Iterator[tuple[str, Write, str]]:
    yield "tfjs-absolute-path", _paths("/etc/passwd"), "unsafe_shard_path"
    yield "tfjs-path-upwards", _paths("../../../etc/passwd"), "unsafe_shard_path"
    yield "tfjs-path-is-an-address", _paths("http://127.0.0.1:9/w.bin"), "unsafe_shard_path"
    yield "tfjs-path-with-nul", _paths("w\0.bin"), "unsafe_shard_path"
    yield "tfjs-link", _link, "missing_shard corrupt_tfjs unsafe_archive_link unknown_format broken"
    yield "tfjs-missing-shard", _paths("v.bin"), "missing_shard"
    yield "tfjs-shard-too-short", _weight(shape=[400]), "corrupt_tfjs"
    yield "tfjs-shard-too-long", _weight(shape=[2]), "corrupt_tfjs"
    yield "tfjs-huge-weight", _weight(shape=[2**40, 2**40]), "unsafe_dimensions"
    yield "tfjs-negative-weight", _weight(shape=[-4]), "corrupt_tfjs"
    yield "tfjs-no-such-dtype", _weight(dtype="O"), "corrupt_tfjs"
    yield "tfjs-many-strings", _weight(dtype="string", shape=[10**9]), "corrupt_tfjs"
    yield (
        "tfjs-cycle",
        _node(input=["y", "w"]),
        "corrupt_model malformed_model dangling_reference ambiguous_outputs broken",
    )
    yield "tfjs-reads-a-file", _node(op="ReadFile", input=["x"]), "unsafe_op"
    yield "tfjs-no-such-op", _node(op="Evil"), "unsupported_op"
    yield (
        "tfjs-attribute-kind",
        _node(attr={"T": {"shape": {"dim": []}}}),
        "broken corrupt_tfjs malformed_model",
    )
    yield "tfjs-node-is-a-list", _tfjs(lambda d: d["modelTopology"].update(node=[[1]])), "corrupt_tfjs"
    yield (
        "tfjs-node-without-a-name",
        _tfjs(lambda d: d["modelTopology"]["node"][0].pop("name")),
        "corrupt_tfjs",
    )
    yield "tfjs-recursive-function", _tfjs(lambda d: d["modelTopology"].update(
        library={"function": [{"signature": {"name": "f"}, "nodeDef": [{"name": "c", "op": "f"}]}]})), "unsafe_function_recursion recursive_function broken"  # fmt: skip
    yield (
        "tfjs-bomb",
        _bomb,
        "unsafe_archive_bomb",
    )
    yield (
        "tfjs-deep",
        _saved(lambda: b'{"modelTopology":' + b"[" * 100_000, "model.json"),
        "unsafe_config_depth",
    )
    yield "tfjs-cut", _saved(lambda: b'{"modelTopology": {"node": [', "model.json"), "corrupt_tfjs"
    yield (
        "tfjs-layers",
        _saved(
            lambda: (
                b'{"format": "layers-model", "modelTopology": {"model_config": {}}, "weightsManifest": []}'
            ),
            "model.json",
        ),
        "unsupported_tfjs_layers",
    )


def entries() -> Iterator[tuple[str, Write, str]]:
    """Every case: name, what writes it, and the codes that its refusal may carry."""
    yield from tflite()
    yield from tfjs()
