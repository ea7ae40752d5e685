"""The ONNX source: weights by reference, external data inside its folder only, errors with a remedy."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from folding.errors import (
    AmbiguousModel,
    BnfoldError,
    CorruptModel,
    ModelError,
    UnsafeModel,
    UnsupportedModel,
    UsageError,
)
from folding.options import FoldOptions
from folding.progress import Progress
from folding.sources.base import Imported, Upload
from folding.sources.onnx.importer import FORMAT, looks_like_onnx

WEIGHT = np.arange(3 * 4 * 5 * 5, dtype=np.float32).reshape(4, 3, 5, 5) / 100


def network(**options: object) -> onnx.ModelProto:
    """x -> Conv -> Relu -> y, with a weight large enough to be read by reference."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"], name="conv"), helper.make_node("Relu", ["c"], ["y"])],
        "net",
        [value("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [value("y", TensorProto.FLOAT, ["N", 4, 4, 4])],
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    options.setdefault("ir_version", 8)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], **options)


def upload(path: Path, root: Path | None = None) -> Upload:
    root = root or path.parent
    files = tuple(sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()))
    return Upload(path, root, files, "sha256:0")


def load(path: Path, **options: object) -> Imported:
    return FORMAT.load(upload(path), FoldOptions(**options), path.parent, Progress())


def save(tmp_path: Path, proto: onnx.ModelProto, name: str = "m.onnx") -> Path:
    path = tmp_path / name
    onnx.save(proto, path)
    return path


def external(tmp_path: Path, location: str = "w.bin", **more: str) -> Path:
    proto = network()
    tensor = proto.graph.initializer[0]
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=text)
    if not location.startswith(("/", "..")):
        (tmp_path / location).write_bytes(data)
    return save(tmp_path, proto)


def weight_of(imported: Imported) -> np.ndarray:
    tensor = imported.model.graph.initializers["w"].const_value
    assert tensor is not None
    return tensor.numpy()


def test_weights_are_views_of_one_memory_map(tmp_path: Path) -> None:
    imported = load(save(tmp_path, network(producer_name="maker", producer_version="1")))
    array = weight_of(imported)
    np.testing.assert_array_equal(array, WEIGHT)
    assert not array.flags.owndata
    assert not array.flags.writeable
    assert imported.source.framework == "maker 1"
    assert [i.shape for i in imported.source.inputs] == [["N", 3, 8, 8]]
    assert imported.onnx_path == tmp_path / "m.onnx"


def test_external_data(tmp_path: Path) -> None:
    np.testing.assert_array_equal(weight_of(load(external(tmp_path))), WEIGHT)


def test_external_data_at_an_offset(tmp_path: Path) -> None:
    path = external(tmp_path, offset="8", length=str(WEIGHT.nbytes))
    (tmp_path / "w.bin").write_bytes(bytes(8) + WEIGHT.tobytes())
    np.testing.assert_array_equal(weight_of(load(path)), WEIGHT)


@pytest.mark.parametrize("location", ["/etc/passwd", "../w.bin", "a/../../w.bin", ""])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    path = external(inside, location) if location.startswith(("/", "..")) else external(inside, "w.bin")
    if not location.startswith(("/", "..")):
        proto = onnx.load(path, load_external_data=False)
        proto.graph.initializer[0].external_data[0].value = location
        onnx.save(proto, path)
    with pytest.raises(UnsafeModel):
        load(path)


def test_external_data_behind_links_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret").write_bytes(WEIGHT.tobytes())
    path = external(inside)
    for link in (os.symlink, os.link):
        (inside / "w.bin").unlink()
        link(tmp_path / "secret", inside / "w.bin")
        with pytest.raises(UnsafeModel):
            load(path)


def test_external_data_that_is_missing_or_short(tmp_path: Path) -> None:
    path = external(tmp_path)
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes()[:-4])
    with pytest.raises(CorruptModel, match="1196") as caught:
        load(path)
    assert caught.value.error_code == "external_data_out_of_range"
    (tmp_path / "w.bin").rename(tmp_path / "weights.bin")
    with pytest.raises(CorruptModel, match=r"w\.bin") as caught:
        load(path)
    assert caught.value.error_code == "external_data_missing"
    assert caught.value.hint is not None
    assert "w.bin" in caught.value.hint


@pytest.mark.parametrize("offset", ["-4", "99999999999", "x"])
def test_external_data_with_a_bad_offset(tmp_path: Path, offset: str) -> None:
    with pytest.raises(BnfoldError) as caught:
        load(external(tmp_path, offset=offset))
    assert caught.value.exit_code == 4


def test_every_truncation_is_a_named_error(tmp_path: Path) -> None:
    whole = network().SerializeToString()
    path = tmp_path / "m.onnx"
    for size in [*range(60), *range(60, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(BnfoldError) as caught:
            load(path)
        assert caught.value.exit_code == 4, size


@pytest.mark.parametrize("seed", range(40))
def test_damaged_bytes_never_raise_anything_else(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(network().SerializeToString())
    for position in rng.integers(0, min(len(data), 400), 3):
        data[position] = rng.integers(256)
    path = tmp_path / "m.onnx"
    path.write_bytes(bytes(data))
    with contextlib.suppress(ModelError):  # harmless damage is read, the rest has a name
        load(path)


def test_a_tensor_whose_bytes_do_not_fit_its_dims(tmp_path: Path) -> None:
    proto = network()
    proto.graph.initializer[0].dims[0] = 5
    with pytest.raises(CorruptModel, match="'w'"):
        load(save(tmp_path, proto))


def test_unknown_operator_is_named(tmp_path: Path) -> None:
    proto = network()
    proto.graph.node[1].op_type = "Rellu"
    with pytest.raises(UnsupportedModel, match="Rellu") as caught:
        load(save(tmp_path, proto))
    assert caught.value.error_code == "unknown_op"


def test_unknown_opset_is_named(tmp_path: Path) -> None:
    proto = network()
    proto.opset_import[0].version = 999
    with pytest.raises(UnsupportedModel) as caught:
        load(save(tmp_path, proto))
    assert caught.value.error_code == "unknown_opset"


def test_invalid_graph_is_told_in_the_checkers_words(tmp_path: Path) -> None:
    proto = network()
    proto.graph.node[1].input[0] = "nowhere"
    with pytest.raises(CorruptModel, match="nowhere") as caught:
        load(save(tmp_path, proto))
    assert caught.value.error_code == "invalid_onnx"


def test_sparse_initializers_become_dense(tmp_path: Path) -> None:
    proto = network()
    dense = np.zeros((4, 3, 5, 5), np.float32)
    dense.reshape(-1)[[0, 7, 299]] = [1, 2, 3]
    del proto.graph.initializer[:]
    values = numpy_helper.from_array(np.array([1, 2, 3], np.float32), "w")
    indices = numpy_helper.from_array(np.array([0, 7, 299], np.int64), "w_indices")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, dense.shape))
    imported = load(save(tmp_path, proto))
    np.testing.assert_array_equal(weight_of(imported), dense)
    assert "sparse" in imported.source.notes[0]


def test_below_ir_4_initializers_are_constants(tmp_path: Path) -> None:
    proto = network(ir_version=3)
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, WEIGHT.shape))
    imported = load(save(tmp_path, proto))
    assert [value.name for value in imported.model.graph.inputs] == ["x"]


def test_from_ir_4_on_they_stay_overridable(tmp_path: Path) -> None:
    proto = network()
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, WEIGHT.shape))
    imported = load(save(tmp_path, proto))
    assert [value.name for value in imported.model.graph.inputs] == ["x", "w"]
    assert [info.name for info in imported.source.inputs] == ["x"]


def test_outputs_inputs_and_feeds_as_asked(tmp_path: Path) -> None:
    path = save(tmp_path, network())
    imported = load(path, outputs=["c"], inputs={"x": [1, 3, 8, 8]})
    assert [value.name for value in imported.model.graph.outputs] == ["c"]
    assert imported.source.inputs[0].shape == [1, 3, 8, 8]
    assert imported.onnx_path is None
    for wrong in ({"outputs": ["z"]}, {"inputs": {"z": []}}, {"feeds": {"z": 1}}):
        with pytest.raises(UsageError) as caught:
            load(path, **wrong)
        assert caught.value.details["candidates"]


def test_a_fed_input_is_a_constant(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "keep"], ["y"])],
        "net",
        [value("x", TensorProto.FLOAT, [2]), value("keep", TensorProto.FLOAT, [])],
        [value("y", TensorProto.FLOAT, [2])],
    )
    path = save(tmp_path, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    imported = load(path, feeds={"keep": 1.0})
    assert [v.name for v in imported.model.graph.inputs] == ["x"]
    assert imported.source.assumptions[0].what == "input keep"


def test_two_models_in_one_folder_are_ambiguous(tmp_path: Path) -> None:
    save(tmp_path, network(), "a.onnx")
    save(tmp_path, network(), "b.onnx")
    found = upload(tmp_path, tmp_path)
    with pytest.raises(AmbiguousModel) as caught:
        FORMAT.load(found, FoldOptions(), tmp_path, Progress())
    assert caught.value.details["candidates"] == ["a.onnx", "b.onnx"]


def test_sniffing_goes_by_content(tmp_path: Path) -> None:
    good = save(tmp_path, network(), "no_suffix")
    assert looks_like_onnx(good)
    others = {
        "e.onnx": b"",
        "t.onnx": b"hello, world",
        "z.onnx": b"PK\x03\x04" + bytes(64),
        "h.onnx": b"\x89HDF\r\n\x1a\n",
        "s.pb": b"\x08\x01\x12\xf0\xff\x3f" + bytes(64),
    }
    for name, data in others.items():
        path = tmp_path / name
        path.write_bytes(data)
        assert not looks_like_onnx(path), name
