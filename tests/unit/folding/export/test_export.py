"""What export promises: checked, complete shapes, same bytes for the same model, whole or absent."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from folding import export
from folding.errors import UnsupportedModel
from folding.options import FoldOptions
from folding.report import SourceReport
from tests.unit.folding.passes.graphs import feeds_for, model, run

SOURCE = SourceReport(format="onnx", framework="test", digest="sha256:abc")
TEXT = """main (float[N,3,6,6] x) => (float[N,?,?,?] y) {
    c = Conv(x, w)
    y = Relu(c)
}"""


def net(**more: np.ndarray) -> ir.Model:
    weight = np.random.default_rng(0).standard_normal((16, 3, 3, 3)).astype(np.float32)
    return model(TEXT, w=more.get("w", weight))


def write(found: ir.Model, path: Path, **options: object) -> onnx.ModelProto:
    report = export.write(found, path, FoldOptions(**options), SOURCE)
    assert report.digest == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    onnx.checker.check_model(str(path), full_check=True)
    return onnx.load(path)


def test_the_artifact_is_checked_and_computes_the_same(tmp_path: Path) -> None:
    found = net()
    feeds = feeds_for(found)
    expected = run(found, feeds)
    proto = write(found, tmp_path / "a.onnx")
    np.testing.assert_array_equal(run(ir.serde.deserialize_model(proto), feeds)[0], expected[0])
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"], "no partial file may stay"


def test_shapes_are_complete_and_the_interface_is_unchanged(tmp_path: Path) -> None:
    proto = write(net(), tmp_path / "a.onnx")
    inner = {info.name: [d.dim_value or d.dim_param for d in info.type.tensor_type.shape.dim]
             for info in proto.graph.value_info}  # fmt: skip
    assert inner["c"] == ["N", 16, 4, 4]
    output = proto.graph.output[0].type.tensor_type.shape.dim
    assert [d.dim_value or d.dim_param for d in output] == ["N", "", "", ""] or output[1].dim_value == 0


def test_same_model_same_bytes(tmp_path: Path) -> None:
    digests = {export.write(net(), tmp_path / name, FoldOptions(), SOURCE).digest for name in ("a", "b")}
    assert len(digests) == 1


def test_a_second_export_has_the_same_bytes(tmp_path: Path) -> None:
    first = write(net(), tmp_path / "a.onnx")
    write(ir.serde.deserialize_model(first), tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_provenance_ends_the_file(tmp_path: Path) -> None:
    proto = write(net(), tmp_path / "a.onnx")
    props = {entry.key: entry.value for entry in proto.metadata_props}
    assert props["bnfold.source_digest"] == "sha256:abc"
    assert props["bnfold.version"]
    trailer = onnx.ModelProto(metadata_props=[p for p in proto.metadata_props if p.key.startswith("bnfold.")])
    data = (tmp_path / "a.onnx").read_bytes()
    tail = trailer.SerializeToString()
    assert data.endswith(tail)
    content = hashlib.sha256(data[: -len(tail)]).hexdigest()
    assert props["bnfold.content_digest"] == f"sha256:{content}"


@pytest.mark.parametrize("opset", [13, 15, 18, 21])
def test_opset_as_asked(tmp_path: Path, opset: int) -> None:
    found = net()
    feeds = feeds_for(found)
    expected = run(found, feeds)[0]
    proto = write(found, tmp_path / "a.onnx", opset=opset)
    assert proto.opset_import[0].version == opset
    assert proto.ir_version == export.ir_version(ir.serde.deserialize_model(proto))
    np.testing.assert_allclose(run(ir.serde.deserialize_model(proto), feeds)[0], expected, rtol=1e-6)


def test_an_opset_that_cannot_be_reached_is_an_error(tmp_path: Path) -> None:
    found = model("main (float[2,4] x) => (float[2,4] y) { y = Mish(x) }", opset=18)
    with pytest.raises(UnsupportedModel) as caught:
        export.write(found, tmp_path / "a.onnx", FoldOptions(opset=9), SOURCE)
    assert caught.value.error_code in ("opset_conversion", "checker_refused")
    assert not list(tmp_path.iterdir())


def test_large_weights_go_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "EXTERNAL_ABOVE", 1000)
    found = net()
    feeds = feeds_for(found)
    expected = run(found, feeds)[0]
    report = export.write(found, tmp_path / "a.onnx", FoldOptions(), SOURCE)
    data = tmp_path / "a.onnx.data"
    assert report.bytes == data.stat().st_size + (tmp_path / "a.onnx").stat().st_size
    onnx.checker.check_model(str(tmp_path / "a.onnx"), full_check=True)
    proto = onnx.load(tmp_path / "a.onnx")
    props = {entry.key: entry.value for entry in proto.metadata_props}
    assert props["bnfold.data_digest"] == "sha256:" + hashlib.sha256(data.read_bytes()).hexdigest()
    np.testing.assert_array_equal(run(ir.serde.deserialize_model(proto), feeds)[0], expected)


def test_a_failed_write_leaves_the_old_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.onnx"
    target.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        export.write(net(), target, FoldOptions(), SOURCE)
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


@pytest.mark.parametrize(
    "dtype", ["FLOAT16", "BFLOAT16", "DOUBLE", "INT8", "UINT4", "INT4", "FLOAT8E4M3FN", "BOOL"]
)
def test_element_types_survive(tmp_path: Path, dtype: str) -> None:
    kind = ir.DataType[dtype]
    data = np.random.default_rng(1).integers(0, 2, (9, 401)).astype(kind.numpy())
    value = ir.Value(name="w", type=ir.TensorType(kind), shape=ir.Shape(data.shape),
                     const_value=ir.Tensor(data, kind, name="w"))  # fmt: skip
    node = ir.Node("", "Identity", [value])
    node.outputs[0].name, node.outputs[0].type = "y", ir.TensorType(kind)
    node.outputs[0].shape = ir.Shape(data.shape)
    graph = ir.Graph(
        [], [node.outputs[0]], nodes=[node], initializers=[value], opset_imports={"": 21}, name="g"
    )
    proto = write(ir.Model(graph, ir_version=10), tmp_path / "a.onnx")
    stored = ir.serde.deserialize_tensor(proto.graph.initializer[0])
    assert stored.tobytes() == value.const_value.tobytes()  # type: ignore[union-attr]


def test_parameter_count() -> None:
    assert export.parameter_count(net()) == 16 * 27
