"""Keras files whose configuration is code, or whose HDF5 points elsewhere."""

# A table of one case a line reads better than wrapped brackets.
# ruff: noqa: E501

from __future__ import annotations

import base64
import io
import json
import marshal
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Write = Callable[[Path], Path | None]
Config = dict[str, Any]


def layer_config(
    class_name: str, module: str | None = "keras.layers", registered: str | None = None, **config: Any
) -> Config:
    return {"module": module, "class_name": class_name, "config": {"name": "evil", **config},
            "registered_name": registered}  # fmt: skip


def sequential(*layers: Config) -> Config:
    """A Keras 3 Sequential with an input of 4 values."""
    first = layer_config("InputLayer", batch_shape=[None, 4], dtype="float32")
    first["config"]["name"] = "x"
    return {"module": "keras", "class_name": "Sequential", "registered_name": None,
            "config": {"name": "m", "layers": [first, *layers]}}  # fmt: skip


def _weights(fill: Callable[[h5py.File, Path], None] | None = None) -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file.create_group("layers")
        if fill is not None:
            file.create_group("model_weights")
            fill(file, Path())
    return out.getvalue()


def _keras(config: Any, weights: bytes | None = None, more: dict[str, bytes] | None = None) -> Write:
    def write(home: Path) -> Path:
        path = home / "model.keras"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", '{"keras_version": "3.15.1", "date_saved": "2026-01-01"}')
            archive.writestr("config.json", config if isinstance(config, str | bytes) else json.dumps(config))
            archive.writestr("model.weights.h5", _weights() if weights is None else weights)
            for name, data in (more or {}).items():
                archive.writestr(name, data)
        return path

    return write


def _h5(config: Any, fill: Callable[[h5py.File, Path], None] | None = None, version: str = "2.4.0") -> Write:
    def write(home: Path) -> Path:
        path = home / "model.h5"
        with h5py.File(path, "w") as file:
            if config is not None:
                file.attrs["model_config"] = config if isinstance(config, str) else json.dumps(config)
            file.attrs["keras_version"] = version
            file.create_group("model_weights").attrs["layer_names"] = np.array([], "S1")
            if fill is not None:
                fill(file, home)
        return path

    return write


def _operation(class_name: str, *arguments: Any, **config: Any) -> Write:
    """A Keras 3 `.h5` in which one bare operation reads the input."""
    tensor = {
        "class_name": "__keras_tensor__",
        "config": {"shape": [None, 4], "dtype": "float32", "keras_history": ["x", 0, 0]},
    }
    first = {"class_name": "InputLayer", "name": "x", "inbound_nodes": [],
             "config": {"batch_shape": [None, 4], "name": "x", "dtype": "float32"}}  # fmt: skip
    evil = {"class_name": class_name, "name": "evil", "config": config,
            "inbound_nodes": [{"args": [tensor, *arguments], "kwargs": {}}]}  # fmt: skip
    model = {
        "name": "m",
        "layers": [first, evil],
        "input_layers": [["x", 0, 0]],
        "output_layers": [["evil", 0, 0]],
    }
    return _h5({"class_name": "Functional", "config": model}, version="3.15.1")


def _old(*layers: Config) -> Config:
    """A Keras 2 Sequential, as tf-keras reads it."""
    first = {
        "class_name": "InputLayer",
        "config": {"batch_input_shape": [None, 4], "name": "x", "dtype": "float32"},
    }
    rest = [{"class_name": each["class_name"], "config": each["config"]} for each in layers]
    return {"class_name": "Sequential", "config": {"name": "m", "layers": [first, *rest]}}


def _bytecode() -> str:
    """A function of one argument that leaves a file behind, as Keras stores the code of a lambda."""
    function = compile("lambda x: (open('/tmp/bnfold-pwned', 'w').close(), x)[1]", "evil", "eval").co_consts[
        0
    ]
    return base64.b64encode(marshal.dumps(function)).decode()


def _lambda(**config: Any) -> Config:
    """A Lambda layer with real code in it, in the form of Keras 3."""
    stored = {"code": _bytecode(), "defaults": None, "closure": None}
    return layer_config(
        "Lambda", function={"class_name": "__lambda__", "config": stored}, arguments={}, **config
    )


def _function(module: str, name: str) -> Config:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


# --- HDF5 -------------------------------------------------------------------------------------------


def _external_link(file: h5py.File, home: Path) -> None:
    file["model_weights/evil"] = h5py.ExternalLink("/etc/passwd", "/")


def _soft_link(file: h5py.File, home: Path) -> None:
    file["model_weights/evil"] = h5py.SoftLink("/model_weights")


def _external_storage(file: h5py.File, home: Path) -> None:
    file.create_dataset("model_weights/evil", (64,), "u1", external=[("/etc/passwd", 0, 64)])


def _virtual(file: h5py.File, home: Path) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "d", (4,))
    file.create_virtual_dataset("model_weights/evil", layout)


def _petabytes(file: h5py.File, home: Path) -> None:
    file.create_dataset("model_weights/evil", (1 << 50,), "f8", chunks=(1 << 10,))


def _many_large(file: h5py.File, home: Path) -> None:
    for index in range(64):
        file.create_dataset(f"model_weights/w{index}", (1 << 20,), "f4", chunks=(1 << 10,))


def _filter(file: h5py.File, home: Path) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((4,))
    plist.set_filter(307, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple((4,))
    h5py.h5d.create(file["model_weights"].id, b"evil", h5py.h5t.IEEE_F32LE, space, plist)


def _cycle(file: h5py.File, home: Path) -> None:
    group = file["model_weights"].create_group("a")
    group["again"] = file["model_weights"]


def _deep(file: h5py.File, home: Path) -> None:
    file.create_group("model_weights/" + "/".join("g" * 100))


def _text_config(file: h5py.File, home: Path) -> None:
    file.attrs["model_config"] = 7


def _traversal_group(file: h5py.File, home: Path) -> None:
    file.attrs["model_config"] = json.dumps(_old(layer_config("Dense", units=4, name="../../evil")))


def _nested(depth: int) -> str:
    return '{"class_name": "Sequential", "config": {"layers": [' * depth + "]}}" * depth


def _heap(home: Path, write: Write, which: int | None) -> Path:
    """Take the size from an object of the global heap; None: from its free space, which is the last."""
    path = write(home)
    assert path is not None
    data = bytearray(path.read_bytes())
    begin = data.find(b"GCOL")
    at, number = begin + 16, 0
    while True:
        index, size = struct.unpack_from("<H6xQ", data, at)
        if number == which or index == 0:
            struct.pack_into("<Q", data, at + 8, 0)
            path.write_bytes(data)
            return path
        at, number = at + 16 + -(-size // 8) * 8, number + 1


def _no_kind(home: Path, write: Write) -> Path:
    """A text of variable length that says to be neither text nor a sequence."""
    path = write(home)
    assert path is not None
    data = path.read_bytes()
    kind = data.find(b"\x19\x01", data.find(b"model_config"))
    path.write_bytes(data[: kind + 1] + b"\x7a" + data[kind + 2 :])
    return path


def _sequences(file: Any, home: Path) -> None:
    held = np.empty(1, object)
    held[0] = np.arange(3, dtype=np.int32)
    file.attrs.create("model_config_too", held, dtype=h5py.vlen_dtype(np.int32))


def entries() -> Iterator[tuple[str, Write, str]]:
    """(name, writer, codes)."""
    code, name, size = "unsafe_keras_class", "unsafe_keras_name", "unsafe_dimensions"
    lambda_ = _lambda()
    evil: dict[str, Config] = {
        "lambda": lambda_,
        "lambda_named": layer_config("Lambda", function="os.system"),
        "tfsm_layer": layer_config("TFSMLayer", filepath="/tmp/evil", call_endpoint="serve"),
        "torch_module": layer_config("TorchModuleWrapper", module="gASVAAAA"),
        "jax_layer": layer_config("JaxLayer", call_fn="x"),
        "flax_layer": layer_config("FlaxLayer", module="x"),
        "pipeline": layer_config("Pipeline", layers=[lambda_]),
        # CVE-2025-1550: any module, any function
        "cve_2025_1550": layer_config("Dense", units=4, kernel_initializer=_function("os", "system")),
        "cve_2025_1550_class": layer_config("Popen", module="subprocess", args="id"),
        # CVE-2025-8747: a download helper of Keras itself
        "cve_2025_8747": layer_config("Dense", units=4, activation=_function("keras.utils", "get_file")),
        # CVE-2025-9906: switch the safe mode off from inside
        "cve_2025_9906": layer_config(
            "Dense", units=4, activation=_function("keras.config", "enable_unsafe_deserialization")
        ),
        # CVE-2026-1462: a layer that loads a SavedModel while it is built
        "cve_2026_1462": layer_config("TFSMLayer", module="keras.src.export.tfsm_layer", filepath="../x"),
        # CVE-2026-12481: the guard of Lambda took a safe mode that nobody had set for one that was off, so its
        # code ran where a wrapper, a cell or a clone deserialized it outside of `load_model`
        "cve_2026_12481": lambda_,
        "cve_2026_12481_unset": _lambda(safe_mode=None),
        "cve_2026_12481_private": {**lambda_, "module": "keras.src.layers.core.lambda_layer"},
        "cve_2026_12481_bidirectional": layer_config("Bidirectional", layer=lambda_, backward_layer=lambda_),
        "cve_2026_12481_cell": layer_config("RNN", cell=layer_config("StackedRNNCells", cells=[lambda_])),
        "cve_2026_12481_shape": layer_config(
            "Lambda", function="tanh", output_shape=lambda_["config"]["function"]
        ),
        "cve_2026_12481_bare": layer_config("Activation", activation=lambda_["config"]["function"]),
        # CVE-2025-49655 and CVE-2026-12484: the same of a pickled torch module
        "cve_2026_12484": layer_config(
            "TorchModuleWrapper", module="keras.src.utils.torch_utils", name="t", output_shape=[4]
        ),
        "custom_registered": layer_config("Dense", registered="evil>Dense", units=4),
        "foreign_module": layer_config("Layer", module="evil.layers"),
        "module_of_keras_like": layer_config("Layer", module="keras_evil.layers"),
        "module_climbing": layer_config("system", module="keras.layers.os"),
        "main_module": layer_config("Evil", module="__main__"),
        "base_layer": layer_config("Layer"),
        "wrapped_lambda": layer_config("TimeDistributed", layer=lambda_),
        "nested_lambda": {**sequential(lambda_), "module": "keras"},
        "regularizer": layer_config("Dense", units=4, kernel_regularizer=_function("builtins", "eval")),
        "constraint": layer_config("Dense", units=4, kernel_constraint=layer_config("Evil", module="evil")),
        "initializer_lambda": layer_config(
            "Dense", units=4, bias_initializer={"class_name": "__lambda__", "config": {}}
        ),
        "operation_map": layer_config("Map", module="keras.src.ops.core", function=_function("os", "system")),
        "operation_private": layer_config("_Evil", module="keras.src.ops.numpy"),
        "typespec": layer_config(
            "Dense", units=4, spec={"class_name": "__typespec__", "module": "os", "config": ["x"]}
        ),
        "dtype_policy": layer_config(
            "Dense", units=4, dtype={"class_name": "Evil", "module": "evil", "config": {}}
        ),
        "activation_code": layer_config("Activation", activation="(lambda x: x)"),
    }
    for label, layer in evil.items():
        yield f"config_{label}", _keras(sequential(layer)), code
    # CVE-2025-12058: a vocabulary that Keras would fetch, from anywhere TensorFlow can reach
    for label, place in (
        ("web", "http://127.0.0.1:9/v.txt"),
        ("bucket", "gs://evil/v.txt"),
        ("parent", "../v"),
    ):
        lookup = layer_config("StringLookup", vocabulary=place)
        yield f"cve_2025_12058_{label}", _keras(sequential(lookup)), "unsafe_keras_file"
    old_lambda = layer_config(
        "Lambda", function=[_bytecode(), None, None], function_type="lambda", arguments={}
    )
    yield "h5_lambda_bytecode", _h5(_old(old_lambda)), code
    for label in ("lambda", "tfsm_layer", "torch_module", "wrapped_lambda", "cve_2026_12481_bidirectional"):
        yield f"h5_{label}", _h5(_old(evil[label])), code  # CVE-2025-9905: safe_mode is ignored for .h5
    yield "h5_op_lambda", _h5(_old(layer_config("TFOpLambda", function="io.write_file"))), code
    yield "h5_op_lambda_read", _h5(_old(layer_config("TFOpLambda", function="io.read_file"))), code
    yield "h5_op_lambda_raw", _h5(_old(layer_config("TFOpLambda", function="raw_ops.WriteFile"))), code
    yield (
        "h5_op_layer",
        _h5(_old(layer_config("TensorFlowOpLayer", node_def='{"op": "WriteFile"}', constants={}))),
        code,
    )
    yield (
        "h5_op_layer_python",
        _h5(_old(layer_config("TensorFlowOpLayer", node_def='{"op": "PyFunc"}', constants={}))),
        code,
    )
    for label in (
        "Map",
        "Cond",
        "Scan",
        "AssociativeScan",
        "VectorizedMap",
        "WhileLoop",
        "ForiLoop",
        "Switch",
        "Operation",
    ):
        yield f"h5_operation_{label}", _operation(label, 1), code
    yield "h5_operation_function", _operation("Add", _function("os", "system")), code
    yield (
        "h5_operation_lambda",
        _operation("Add", {"class_name": "__lambda__", "config": {"value": _bytecode()}}),
        code,
    )
    yield (
        "h5_operation_of_another_tensor",
        _operation(
            "Add",
            {
                "class_name": "__keras_tensor__",
                "config": {"shape": [None, 4], "dtype": "float32", "keras_history": ["nobody", 7, 7]},
            },
        ),
        "broken keras_config",
    )
    yield "h5_operation_settings", _operation("Add", 1.0, axis=[[[]]], name=7), "broken keras_config"
    yield "h5_operation_argument", _operation("Reshape", newshape={"class_name": "Evil", "config": {}}), code
    yield "h5_operation_size", _operation("Repeat", repeats=1 << 40), size
    for label in ("StringLookup", "IntegerLookup", "TextVectorization"):
        yield (
            f"vocabulary_{label}",
            _keras(sequential(layer_config(label, vocabulary="/etc/passwd"))),
            "unsafe_keras_file",
        )
        yield (
            f"h5_vocabulary_{label}",
            _h5(_old(layer_config(label, vocabulary="/etc/passwd"))),
            "unsafe_keras_file",
        )
    for label, bad in (
        ("parent", "../../evil"),
        ("cve_2026_12479", ".."),
        ("slash", "a/b"),
        ("backslash", "a\\b"),
        ("nul", "a\0b"),
        ("root", "/evil"),
    ):
        yield f"name_{label}", _keras(sequential(layer_config("Dense", units=4, name=bad))), name
    yield "h5_name_parent", _h5(None, _traversal_group), name
    yield (
        "name_script",
        _keras(sequential(layer_config("Dense", units=4, name="<script>alert(1)<script>"))),
        "broken keras_config",
    )
    yield "units", _keras(sequential(layer_config("Dense", units=1 << 40))), size
    yield "filters", _h5(_old(layer_config("Conv2D", filters=1 << 40, kernel_size=[3, 3]))), size
    yield (
        "embedding",
        _keras(sequential(layer_config("Embedding", input_dim=1 << 40, output_dim=1 << 20))),
        size,
    )
    yield "input_shape", _h5(_old(layer_config("Dense", units=4, batch_input_shape=[1 << 20, 1 << 20]))), size
    yield "repeat", _keras(sequential(layer_config("RepeatVector", n=1 << 40))), size
    yield "padding", _h5(_old(layer_config("ZeroPadding2D", padding=[1 << 30, 1 << 30]))), size
    yield (
        "dense_of_memory",
        _keras(sequential(layer_config("Dense", units=200_000_000))),
        "broken keras_config out_of_memory",
    )
    yield "config_depth", _keras(_nested(200)), "unsafe_config_depth broken"
    yield "config_depth_json", _keras("[" * 200_000), "unsafe_config_depth broken"
    yield "config_list", _keras([1, 2]), "broken"
    yield "config_no_json", _keras("import os; os.system('id')"), "broken"
    yield "config_pickle", _keras(b"\x80\x04\x95cos\nsystem\n(S'id'\ntR."), "broken"
    yield "config_class_number", _keras(sequential({"class_name": 7, "config": {}})), "broken"
    yield "member_parent", _keras(sequential(), more={"../evil": b"x"}), "unsafe_archive_name"
    yield "member_foreign", _keras(sequential(), more={"evil.py": b"import os"}), "unsafe_keras_member"
    yield "member_bomb", _bomb_member, "unsafe_archive_bomb broken"
    yield "weights_noise", _keras(sequential(layer_config("Dense", units=4)), b"\0" * 100), "broken"
    # In the weights of an archive: CVE-2026-9335 (links), -1669 (storage), -12480 (virtual), -12570 (sizes)
    for label, fill, codes in (
        ("external", _external_link, "unsafe_hdf5_link"),
        ("soft", _soft_link, "unsafe_hdf5_link"),
        ("storage", _external_storage, "unsafe_hdf5_storage"),
        ("virtual", _virtual, "unsafe_hdf5_storage"),
        ("petabytes", _petabytes, "unsafe_hdf5_size"),
        ("many_large", _many_large, "unsafe_hdf5_size"),
    ):
        yield f"weights_{label}", _keras(sequential(), _weights(fill)), codes
    fine = _old(layer_config("Dense", units=4))
    yield "h5_external_link", _h5(fine, _external_link), "unsafe_hdf5_link"
    yield "h5_soft_link", _h5(fine, _soft_link), "unsafe_hdf5_link"
    yield "h5_external_storage", _h5(fine, _external_storage), "unsafe_hdf5_storage"
    yield "h5_virtual", _h5(fine, _virtual), "unsafe_hdf5_storage"
    yield "h5_petabytes", _h5(fine, _petabytes), "unsafe_hdf5_size"
    yield "h5_many_large", _h5(fine, _many_large), "unsafe_hdf5_size"
    yield "h5_filter", _h5(fine, _filter), "unsafe_hdf5_filter"
    yield "h5_cycle", _h5(fine, _cycle), "broken keras_config"
    yield "h5_deep", _h5(fine, _deep), "unsafe_hdf5_depth"
    yield "h5_config_number", _h5(fine, _text_config), "broken"
    yield "h5_weights_link", _h5(None, _external_link), "unsafe_hdf5_link"
    yield "h5_text_without_size", lambda home: _heap(home, _h5(fine), 0), "broken"
    yield "h5_free_space_without_size", lambda home: _heap(home, _h5(fine), None), "broken"  # HDF5 loops
    yield "h5_text_of_no_kind", lambda home: _no_kind(home, _h5(fine)), "broken"  # HDF5 dies
    yield "h5_sequences", _h5(fine, _sequences), "broken"
    yield "h5_truncated", lambda home: _cut(_h5(fine)(home)), "broken"


def _bomb_member(home: Path) -> Path:
    path = home / "model.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps(sequential()))
        archive.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * (70 << 20))
    return path


def _cut(path: Path | None) -> Path:
    assert path is not None
    path.write_bytes(path.read_bytes()[:1500])
    return path
