"""Recalibration: exact on one batch, independent of chunks; without being asked it only diagnoses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from folding import calibrate, pipeline
from folding.errors import UsageError
from folding.options import FoldOptions
from tests.integration.tensorflow.tf1 import expected
from tests.support.paths import TF1_PROGRAMS

OUTPUT = "batch_normalization_2/batchnorm/add_1:0"
BAD = TF1_PROGRAMS / "s001_dense_tanh_bad"


def data(fixture: Path) -> dict[str, np.ndarray]:
    return {"inp:0": np.load(fixture / "probe.npz")["train_x"]}


def run(fixture: Path, target: Path, **options: object) -> pipeline.Report:
    chosen = FoldOptions(outputs=[OUTPUT], **options)
    return pipeline.fold(fixture / "ckpt" / "model.ckpt", target, chosen, calibration=data(fixture))


def codes(report: pipeline.Report) -> set[str]:
    return {finding.code.value for norm in report.batch_norms for finding in norm.health}


def test_lagging_statistics_are_told_and_left_alone(tmp_path: Path) -> None:
    report = run(BAD, tmp_path / "out.onnx")
    assert codes(report) == {"lagging"}
    measured = {row["name"]: row["mean_shift"] for row in report.calibration["layers"]}
    for layer in expected("s001_dense_tanh_bad")["bn"]:
        wanted = layer["stats_vs_data"]["mean_shift_in_std"]
        # epsilon is in our deviation and not in the fixture's
        assert measured[layer["name"]] == pytest.approx(wanted, rel=0.01)
    assert not report.calibration["applied"]


def test_good_statistics_are_not_blamed(tmp_path: Path) -> None:
    assert codes(run(TF1_PROGRAMS / "s001_dense_tanh_good", tmp_path / "out.onnx")) == {"ok"}


@pytest.mark.parametrize(("fixture", "more"), [
    ("s001_dense_tanh_bad", {}), ("s001_dense_tanh_bad_missing", {"missing_stats": "init"}),
])  # fmt: skip
def test_recalibrated_outputs_are_tensorflows(tmp_path: Path, fixture: str, more: dict[str, str]) -> None:
    """TensorFlow 1 ran 3,000 update-only steps over the same data; one pass gives the same model."""
    import onnxruntime

    report = run(TF1_PROGRAMS / fixture, tmp_path / "out.onnx", recalibrate=True, **more)
    assert report.verdict.value == "pass"
    assert codes(report) == {"ok"}
    probe = np.load(TF1_PROGRAMS / fixture / "probe.npz")
    session = onnxruntime.InferenceSession(str(tmp_path / "out.onnx"))
    got = session.run(None, {"inp:0": probe["x"]})[0]
    np.testing.assert_allclose(got, probe["y_recalibrated"], atol=5e-4)


def test_batch_statistics_become_foldable_only_when_asked(tmp_path: Path) -> None:
    source = TF1_PROGRAMS / "tf1_frozen_training_true" / "frozen.pb"
    x = np.load(source.parent / "probe.npz")["x"]
    as_is = pipeline.fold(source, tmp_path / "a.onnx", calibration={"x:0": x})
    assert all(norm.decision == "kept" for norm in as_is.batch_norms)
    asked = pipeline.fold(source, tmp_path / "b.onnx", FoldOptions(recalibrate=True), calibration={"x:0": x})
    assert asked.verdict.value == "pass"
    assert all(norm.decision == "folded" for norm in asked.batch_norms)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_total_variance_does_not_depend_on_the_chunks(size: int) -> None:
    rng = np.random.default_rng(size)
    x = rng.normal(3, 2, (500, 4)) * [1, 10, 0.1, 1e3] + [0, 5, 1e4, 0]
    whole = None
    for start in range(0, 500, size):
        part = x[start : start + size]
        fresh = calibrate.Moments(float(len(part)), part.mean(0), part.var(0))
        whole = fresh if whole is None else whole.merged(fresh)
    assert whole is not None
    np.testing.assert_allclose(whole.mean, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(whole.variance, x.var(0), rtol=1e-9)


@pytest.mark.parametrize("wrong", [
    {}, {"y": np.ones((3, 2))}, {"inp:0": np.ones((3, 5))}, {"inp:0": np.ones((0, 2))},
    {"inp:0": np.full((3, 2), np.nan)},
])  # fmt: skip
def test_data_that_does_not_fit(tmp_path: Path, wrong: dict[str, np.ndarray]) -> None:
    with pytest.raises(UsageError) as caught:
        pipeline.fold(
            BAD / "ckpt" / "model.ckpt", tmp_path / "o.onnx", FoldOptions(outputs=[OUTPUT]), calibration=wrong
        )
    assert caught.value.error_code == "calibration_data"
