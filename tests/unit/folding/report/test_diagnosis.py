"""Every finding that sets inference apart from training has numbers, a meaning and a line to change."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from folding.report import ArrayStats, Health, HealthCode, NormReport, Recalibrated, Verdict
from folding.report.code_changes import CHANGES, LIBRARIES
from folding.report.diagnosis import MEANINGS, TITLES, diagnose, library
from folding.report.records import ArtifactReport
from folding.report.render import render
from tests.unit.folding.report.samples import report as sample

FINDINGS = ("never_updated", "missing_from_checkpoint", "batch_statistics_at_inference", "lagging")


def _norm(
    name: str, code: str, variable: str = "", spelling: str = "FusedBatchNorm", **figures: Any
) -> NormReport:
    finding = Health(code=HealthCode(code), severity="warning", evidence="exactly 0 and 1.", figures=figures)
    stats = {"moving_mean": ArrayStats(variable=variable, dtype="float32", size=3)} if variable else {}
    return NormReport(
        name=name, spelling=spelling, health=[finding], stats=stats, decision="folded", momentum=0.99
    )


def test_each_library_has_a_change_for_each_finding() -> None:
    assert {name for name, _ in LIBRARIES} == set(CHANGES)
    assert set(TITLES) == set(MEANINGS) == {*FINDINGS, "never_normalized"}
    for changes in CHANGES.values():
        assert set(changes) == set(TITLES)


@pytest.mark.parametrize("library_name", sorted(CHANGES))
@pytest.mark.parametrize("kind", [*FINDINGS, "never_normalized"])
def test_the_lines_are_python_and_differ(library_name: str, kind: str) -> None:
    for where, before, after in CHANGES[library_name][kind]:
        assert where
        assert before != after
        for text in (before, after):
            ast.parse(text.replace("{name}", "'bn'").replace("{momentum}", "0.99"))


LIBRARY_ROWS = [
    ("tensorflow 1.15.5", "bn1/moving_mean", "FusedBatchNormV3", "layers"),
    ("tensorflow 1.15.5", "batch_normalization_3/moving_mean", "arithmetic", "layers"),
    ("tensorflow 1.15.5", "conv1/BatchNorm/moving_mean", "FusedBatchNorm", "contrib"),
    ("tensorflow 1.15.5", "BatchNorm/moving_mean", "arithmetic", "contrib"),
    ("tensorflow 1.15.5", "BatchNormalization_1/moving_mean", "arithmetic", "tflearn"),
    ("tensorflow 1.15.5", "bn/moments/Squeeze/ExponentialMovingAverage", "arithmetic", "moments"),
    ("tensorflow (producer 134)", "", "hand-written arithmetic on batch moments", "moments"),
    (
        "tensorflow 1.15.5",
        "batch_normalization/moving_mean",
        "tf.nn.batch_normalization on batch moments",
        "layers",
    ),
    ("tensorflow 2.20.0", "", "tf.nn.batch_normalization on batch moments", "moments"),
    ("pytorch 2.4.0", "bn.running_mean", "onnx.BatchNormalization", "torch"),
    ("an exporter 2.1", "bn.running_mean", "onnx.BatchNormalization", None),
    ("keras 3.15.1", "bn/moving_mean", "arithmetic", "keras"),
    ("tf-keras 2.20.1", "batch_normalization/moving_mean", "FusedBatchNormV3", "keras"),
    ("tensorflow 2.20.0", "bn/moving_mean", "FusedBatchNormV3", "keras"),
]


@pytest.mark.parametrize(("framework", "variable", "spelling", "expected"), LIBRARY_ROWS)
def test_the_library_is_told_from_the_names(
    framework: str, variable: str, spelling: str, expected: str | None
) -> None:
    assert library(_norm("layer", "lagging", variable, spelling), framework) == expected


def test_layers_of_one_kind_share_an_entry_and_kinds_stand_apart() -> None:
    norms = [
        _norm("bn1", "never_updated", "bn1/moving_mean"),
        _norm("bn2", "never_updated", "bn2/moving_mean"),
        _norm("bn3", "never_updated", "bn3/moving_mean", used_in_training=True),
        _norm("bn4", "batch_statistics_at_inference"),
        NormReport(name="good", spelling="FusedBatchNorm", decision="folded"),
    ]
    found = diagnose(norms, "tensorflow 1.15", None)
    assert [(each.code.value, each.layers) for each in found] == [
        ("never_updated", ["bn1", "bn2"]),
        ("batch_statistics_at_inference", ["bn4"]),
        ("never_updated", ["bn3"]),
    ]
    assert "tf.GraphKeys.UPDATE_OPS" in found[0].changes[0].after
    assert "training=is_training, name='bn3'" in found[2].changes[0].after
    assert diagnose([norms[-1]], "tensorflow 1.15", None) == []


def test_the_numbers_of_the_data_stand_beside_the_finding() -> None:
    layers = [{"name": "bn1", "measured": True, "mean": [1.0, 3.0], "variance": [4.0, 4.0]}]
    data = {"samples": 64, "applied": False, "layers": layers, "outputs": {"y": {"relative_rms": 1.5}}}
    (found,) = diagnose([_norm("bn1", "never_updated", "bn1/moving_mean")], "tensorflow 1.15", data)
    assert "On 64 calibration examples bn1 has a mean of 1 to 3 and a variance of 4." in found.measured
    assert "outputs move by 1.5 of their spread" in found.measured


def test_every_form_of_the_report_has_the_page() -> None:
    report = sample()
    name = "evil'`</pre><script>\x1b[2J"
    report.diagnosis = diagnose([_norm(name, "lagging", "bn/moving_mean")], "tensorflow 1.15", None)
    report.recalibrated = Recalibrated(
        file="out.recalibrated.onnx",
        artifact=ArtifactReport(digest="sha256:1", bytes=1),
        verdict=Verdict.PASS,
    )
    for form in ("html", "markdown", "text"):
        text = render(report, form)
        assert "wrong at inference" in text
        assert "momentum=0.9" in text.replace("\\", "")
        assert "recalibrated" in text
        assert form != "html" or "<script>" not in text
        assert form == "html" or "\x1b" not in text  # a terminal acts on it, a browser does not
    assert "momentum=0.9" in report.to_json()
