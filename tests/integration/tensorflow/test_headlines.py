"""The five threads of people whose batch norm failed at inference: the first line names what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from folding import pipeline
from folding.errors import UnhealthyModel
from folding.options import FoldOptions
from folding.report.headline import headline
from tests.integration.tensorflow import artifacts

FIXTURES = Path(__file__).parents[2] / "fixtures" / "tf1"
UNTRAINED = "Equivalent, but the model looks untrained: the only batch norm was never updated"
PLAIN = (
    "Equivalent, but 3 of 3 batch norms were never updated and never normalized in training: "
    "plain scale and shift"
)
GOLDEN = [
    ("s000_never_updated", "ckpt", UNTRAINED),
    ("s000_never_updated", "saved_model", UNTRAINED),
    ("s000_trained", "ckpt", "Equivalent; its batch norm looks healthy"),
    ("s001_dense_tanh_good", "ckpt", "Equivalent; all 3 batch norms look healthy"),
    (
        "s001_dense_tanh_no_training_arg",
        "ckpt",
        PLAIN,
    ),
    ("s002_tflearn", "ckpt", "Equivalent; its batch norm looks healthy"),
    ("s003_contrib", "ckpt", "Equivalent; its batch norm looks healthy"),
    ("s003_manual", "frozen.pb", "Equivalent; its batch norm looks healthy"),
    ("s004_ema_cond_small", "ckpt", "Equivalent; its batch norm looks healthy"),
    (
        "s004_moments_raw",
        "frozen.pb",
        "Equivalent, but 2 of 2 batch norms use the statistics of each batch at inference",
    ),
]


@pytest.mark.parametrize(("fixture", "source", "title"), GOLDEN, ids=lambda value: str(value)[:40])
def test_the_first_line(fixture: str, source: str, title: str, tmp_path: Path) -> None:
    report = pipeline.fold(FIXTURES / fixture / source, tmp_path / "artifact.onnx", FoldOptions())
    assert report.headline == headline(report)
    assert report.headline is not None
    assert report.headline.title == title
    assert bool(report.headline.remedy) == ("but" in title)


def test_statistics_that_were_not_saved_stop_the_job_by_name(tmp_path: Path) -> None:
    source = FIXTURES / "s001_dense_tanh_bad_missing" / "ckpt"
    with pytest.raises(UnhealthyModel, match="does not hold the moving statistics") as caught:
        pipeline.fold(source, tmp_path / "artifact.onnx", FoldOptions())
    assert caught.value.error_code == "missing_from_checkpoint"
    assert caught.value.hint


def test_lagging_statistics_lead_once_data_shows_them(tmp_path: Path) -> None:
    """Without data nobody can tell; with the inputs of training the first line says it."""
    folder = FIXTURES / "s001_dense_tanh_bad"
    expected = json.loads((folder / "expect.json").read_text())
    rows = np.random.default_rng(0).normal(3.0, 5.0, (64, 2)).astype(np.float32)
    inspection, _ = pipeline.inspect(folder / "frozen.pb")
    name = (inspection.inputs or inspection.input_candidates)[0].name
    data = {name: rows}
    report = pipeline.fold(folder / "frozen.pb", tmp_path / "a.onnx", FoldOptions(), calibration=data)
    assert expected
    assert report.headline is not None
    assert "disagree with the calibration data" in report.headline.title
    assert "--recalibrate" in report.headline.remedy


LINES = [
    ("s000_never_updated", "ckpt", "never_updated", "tf.GraphKeys.UPDATE_OPS"),
    ("s001_dense_tanh_no_training_arg", "ckpt", "never_updated", "training=is_training"),
    ("s004_moments_raw", "frozen.pb", "batch_statistics_at_inference", "tf.train.ExponentialMovingAverage"),
    ("s002_tflearn", "ckpt", None, ""),
    ("s003_contrib", "ckpt", None, ""),
]


@pytest.mark.parametrize(("fixture", "source", "code", "line"), LINES)
def test_the_report_names_the_line_to_change(
    fixture: str, source: str, code: str | None, line: str, tmp_path: Path
) -> None:
    options = FoldOptions(verify=False)
    report = pipeline.fold(FIXTURES / fixture / source, tmp_path / "artifact.onnx", options)
    assert [each.code.value for each in report.diagnosis] == ([code] if code else [])
    for each in report.diagnosis:
        assert each.measured
        assert each.meaning
        assert line in each.changes[0].after


def test_the_recalibrated_artifact_lies_beside_the_faithful_one(tmp_path: Path) -> None:
    """The first answers as the source does; the second as training did on this data."""
    import bnfold

    source = FIXTURES / "s001_dense_tanh_bad" / "frozen.pb"
    inspection, _ = pipeline.inspect(source)
    name = (inspection.inputs or inspection.input_candidates)[0].name
    data = {name: np.random.default_rng(0).normal(3.0, 5.0, (64, 2)).astype(np.float32)}
    found = bnfold.fold(source, tmp_path / "net.onnx", calibration=data)
    held = found.report.recalibrated
    assert found.report.diagnosis[0].code.value == "lagging"
    assert "momentum=0.9" in found.report.diagnosis[0].changes[0].after
    assert held is not None
    assert (held.verdict.value, held.file) == ("pass", "net.recalibrated.onnx")
    second = (tmp_path / held.file).read_bytes()
    assert second == found.recalibrated != found.artifact
    again = bnfold.fold(source, calibration=data, recalibrate=True)
    assert again.artifact is not None
    assert found.artifact is not None
    np.testing.assert_array_equal(_answer(second, data), _answer(again.artifact, data))
    assert np.abs(_answer(second, data) - _answer(found.artifact, data)).max() > 0.1
    assert again.report.recalibrated is None
    assert bnfold.fold(source).recalibrated is None


def _answer(artifact: bytes, data: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(artifacts.session(artifact).run(None, data)[0])
