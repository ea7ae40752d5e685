"""What another tool made of a source: the verdict, both graphs, and a reason for each batch norm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from folding import pipeline, sources
from folding.options import FoldOptions
from folding.report import Verdict
from folding.report.render import render
from folding.verify_report import compare
from tests.unit.folding.rules.models import model, norm_arrays

BODY = (
    "c = Conv(x, w) n = BatchNormalization(c, g, b, m, v) r = Sigmoid(n) "
    "y = BatchNormalization(r, g2, b2, m2, v2)"
)


def source(path: Path, rng: np.random.Generator) -> Path:
    second = {f"{name}2": array for name, array in norm_arrays(8, 3).items()}
    arrays = {"w": rng.normal(size=(8, 4, 3, 3)), **norm_arrays(8), **second}
    onnx.save(model("T[N,4,7,7] x", BODY, arrays, dtype="float32"), path)
    return path


def test_one_norm_gone_and_one_left(tmp_path: Path, rng: np.random.Generator) -> None:
    a, b = source(tmp_path / "a.onnx", rng), tmp_path / "b.onnx"
    pipeline.fold(a, b, FoldOptions(verify=False))
    report = compare(a, b)
    assert report.verdict is Verdict.PASS
    assert [(norm.decision, norm.into) for norm in report.batch_norms] == [("folded", ["n"]), ("kept", [])]
    assert report.batch_norms[1].reason == "no_linear_neighbour"
    assert (report.graph.batch_norms_before, report.graph.batch_norms_after) == (2, 1)
    page = render(report, "html")
    assert "Both graphs, side by side" in page
    assert "folded into n" in page
    assert "kept: no_linear_neighbour" in page


def test_the_source_is_read_once(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = source(tmp_path / "a.onnx", rng), tmp_path / "b.onnx"
    pipeline.fold(a, b, FoldOptions(verify=False))
    read: list[Path] = []
    load = sources.load
    monkeypatch.setattr(sources, "load", lambda path, *rest: read.append(path) or load(path, *rest))
    assert compare(a, b).verdict is Verdict.PASS
    assert read == [a, b]


def test_left_although_an_exact_fold_exists(tmp_path: Path, rng: np.random.Generator) -> None:
    a = source(tmp_path / "a.onnx", rng)
    report = compare(a, a)
    assert report.verdict is Verdict.PASS
    first, second = report.batch_norms
    assert first.decision == second.decision == "kept"
    assert "an exact fold exists, into c" in first.detail
    assert "an exact fold exists" not in second.detail


def test_a_wrong_artifact_says_where(tmp_path: Path, rng: np.random.Generator) -> None:
    a, b = source(tmp_path / "a.onnx", rng), tmp_path / "b.onnx"
    pipeline.fold(a, b, FoldOptions(verify=False))
    wrong = onnx.load(b)
    kernel = next(i for i in wrong.graph.initializer if len(i.dims) == 4)
    array = numpy_helper.to_array(kernel).copy()
    array[3] *= -1.0
    kernel.CopyFrom(numpy_helper.from_array(array, kernel.name))
    onnx.save(wrong, b)
    report = compare(a, b)
    assert report.verdict is Verdict.FAIL
    assert report.first_divergence == "r"  # `n` itself is made by another operator: tools may use names anew
    assert report.graph_map is not None


def test_a_wrong_norm_that_both_graphs_have_is_the_first_divergence(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """Its name could stand for another value only if an affine had come or gone there."""
    a, b = source(tmp_path / "a.onnx", rng), tmp_path / "b.onnx"
    for off in (0.3, 1e-3):
        wrong = onnx.load(a)
        beta = next(item for item in wrong.graph.initializer if item.name == "b")
        beta.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(beta) + np.float32(off), "b"))
        onnx.save(wrong, b)
        assert pipeline.verify(a, b).first_divergence == "n"


def test_a_file_for_each_weight(tmp_path: Path, rng: np.random.Generator) -> None:
    """Weights in several files, one of them in a folder, are folded and verified like any others."""
    path = source(tmp_path / "a.onnx", rng)
    plain = tmp_path / "plain.onnx"
    assert pipeline.fold(path, plain, FoldOptions()).verdict is Verdict.PASS
    sharded = onnx.load(path)
    (tmp_path / "shards").mkdir()
    for index, tensor in enumerate(sharded.graph.initializer):
        location = f"weights-{index}.bin" if index else "shards/weights.bin"
        (tmp_path / location).write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
    (tmp_path / "s.onnx").write_bytes(sharded.SerializeToString())
    report = pipeline.fold(tmp_path / "s.onnx", tmp_path / "out.onnx", FoldOptions())
    assert report.verdict is Verdict.PASS
    one, other = onnx.load(plain), onnx.load(tmp_path / "out.onnx")
    assert one.graph == other.graph
