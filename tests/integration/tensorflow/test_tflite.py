"""TensorFlow Lite files of TensorFlow's own converter, in each of its forms: converted, proved, and as LiteRT says."""

# Tables of one case a line read better than wrapped brackets.
# ruff: noqa: E501

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

import folding
from folding.errors import BnfoldError
from folding.options import FoldOptions
from folding.ort import OrtSession
from folding.report import Report, Verdict
from folding.sources.gates.tflite import check_tflite
from folding.sources.tflite.importer import arithmetic
from tests.integration.tensorflow.tflite_networks import FORMS, NETWORKS, converted, network
from tests.support import tflite_files as files

Write = Callable[[str, str], Path]
# One network in every form, every network as floats and in integers.
SHORT = {("resnet", form) for form in FORMS} | {(kind, "full-integer") for kind in NETWORKS}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Write a network in one form; each network is built once, each form converted once."""
    folder = tmp_path_factory.mktemp("tflite")
    built = cache(network)

    @cache
    def write(kind: str, form: str) -> Path:
        path = folder / f"{kind}-{form}.tflite"
        path.write_bytes(converted(built(kind), form))
        return path

    return write


CASES = [
    pytest.param(kind, form, marks=() if (kind, form) in SHORT else pytest.mark.slow)
    for kind in NETWORKS
    for form in FORMS
]


@pytest.mark.parametrize(("kind", "form"), CASES)
def test_each_form_is_converted_and_proved(written: Write, tmp_path: Path, kind: str, form: str) -> None:
    path = written(kind, form)
    report = folding.fold(path, tmp_path / "m.onnx", FoldOptions())
    told = "float" if form == "float16" else form
    assert arithmetic(check_tflite(path.read_bytes())) == told
    assert report.source.format == "tflite"
    assert report.verdict is Verdict.PASS, report.summary
    rows = {row.reference: row for row in report.verification if row.optimization_level == "disable_all"}
    if form == "full-integer":
        layers = rows["litert, operator by operator"]
        assert layers.status == "pass"
        assert layers.figures["not_compared"] == layers.figures["undecided"] == 0
        assert not rows["litert"].judged
        error = f"{layers.figures['largest_steps']:.2f} steps"
    else:
        name = "litert, weights as floats" if form == "dynamic-range" else "litert"
        assert rows[name].status == "pass"
        assert rows[name].judged
        error = f"{max(output.max_rel for output in rows[name].outputs):.1e} of the scale"
    if form == "dynamic-range":
        assert rows["litert"].status == "reported"
        assert "DynamicQuantizeLinear" not in {
            node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node
        }
    print(f"{kind:10} {form:14} against LiteRT {error}, against float64 {worst(report):.1e}")


def worst(report: Report) -> float:
    """The largest difference from float64, of the scale."""
    rows = [
        row
        for row in report.verification
        if row.reference == "float64" and row.optimization_level == "disable_all"
    ]
    return max((output.max_rel for row in rows for output in row.outputs), default=float("nan"))


def test_a_wrong_artifact_of_an_integer_model_does_not_pass(written: Write, tmp_path: Path) -> None:
    source, artifact = written("mobilenet", "full-integer"), tmp_path / "m.onnx"
    folding.fold(source, artifact, FoldOptions(verify=False))
    model = onnx.load(artifact)
    spoilt = next(
        tensor for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 4
    )  # fmt: skip
    values = onnx.numpy_helper.to_array(spoilt).copy()
    values[0] = -values[0]
    spoilt.CopyFrom(onnx.numpy_helper.from_array(values, spoilt.name))
    onnx.save(model, artifact)
    found = folding.verify(source, artifact, FoldOptions())
    assert found.verdict is Verdict.FAIL


def test_a_batch_norm_that_the_converter_left_is_folded(tmp_path: Path) -> None:
    """Multiplication and addition behind a layer with its own activation, as older converters write them."""
    path = tmp_path / "m.tflite"
    path.write_bytes(files.dense())
    report = folding.fold(path, tmp_path / "m.onnx")
    assert report.verdict is Verdict.PASS
    x = np.random.default_rng(0).normal(0, 1, (1, 4)).astype(np.float32)
    weights = (np.arange(12, dtype=np.float32) / 7 - 0.5).reshape(3, 4)
    assert np.allclose(
        OrtSession(tmp_path / "m.onnx").run({"x": x})["y"], np.maximum(x @ weights.T + 1, 0), atol=1e-6
    )


def test_names_that_are_missing_or_equal_convert(tmp_path: Path) -> None:
    def same(made: object) -> None:
        for tensor in made.subgraphs[0].tensors:  # type: ignore[attr-defined]
            tensor.name = ""

    path = tmp_path / "m.tflite"
    path.write_bytes(files.dense(same))
    report = folding.fold(path, tmp_path / "m.onnx")
    assert report.verdict is Verdict.PASS
    assert "named after their number" in " ".join(report.source.notes)


def test_what_tf2onnx_does_not_know_is_refused_by_name(tmp_path: Path) -> None:
    def custom(made: object) -> None:
        made.operatorCodes[0] = files.code(files.OPERATORS.CUSTOM, "MyOwnOperator")  # type: ignore[attr-defined]

    path = tmp_path / "m.tflite"
    path.write_bytes(files.dense(custom))
    with pytest.raises(BnfoldError) as caught:
        folding.fold(path, tmp_path / "m.onnx")
    assert caught.value.error_code == "unsupported_op"
    assert "MyOwnOperator" in str(caught.value)


def test_inspect_lists_what_a_file_takes_and_gives(written: Write) -> None:
    inspection, _ = folding.inspect(written("mobilenet", "float"))
    assert inspection.format == "tflite"
    assert [info.shape for info in inspection.inputs] == [[inspection.inputs[0].shape[0], 24, 24, 3]]  # type: ignore[index]
    assert len(inspection.outputs) == 1
