"""The five threads of people whose batch norm failed at inference: the first line names what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from folding import pipeline
from folding.errors import UnhealthyModel
from folding.options import FoldOptions
from folding.report.headline import headline

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
    import numpy as np

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
