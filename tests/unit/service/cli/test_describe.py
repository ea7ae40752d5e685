"""Reports in words: the verdict first, every finding and every kept layer named."""

from __future__ import annotations

import pytest

from folding.report import Hazard, HealthCode, Inspection
from service.cli import describe
from service.cli.output import Output
from tests.support.reports import norm, sample_report


def test_verdict_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    describe.report(sample_report(), Output())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("verdict: pass")


@pytest.mark.parametrize("verdict", ["pass", "fail", "inconclusive"])
def test_every_verdict_is_explained(verdict: str, capsys: pytest.CaptureFixture[str]) -> None:
    describe.report(sample_report(verdict=verdict), Output())
    assert capsys.readouterr().out.startswith(f"verdict: {verdict}: ")


def test_nothing_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    norms = [norm("conv1/bn"), norm("conv2/bn", code=HealthCode.NEVER_UPDATED), norm("out/bn", "kept")]
    hazard = Hazard(code="pad_fusion", detail="PadFusion answers otherwise", workaround="disable it")
    describe.report(sample_report(norms=norms, hazards=[hazard]), Output())
    shown = capsys.readouterr().out
    for words in ("never_updated: conv2/bn: mean 0", "what to do: train", "kept out/bn: graph_output",
                  "2 of 3 folded", "PadFusion answers otherwise", "disable it", "is_training = False",
                  "override: --feed", "conv1/Conv2D", "x float32 ?x8x8x1"):  # fmt: skip
        assert words in shown, words


def test_calibration_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    report = sample_report()
    report.calibration = {
        "samples": 100,
        "applied": True,
        "layers": [{"name": "bn", "measured": True, "mean_shift": 4.0638, "variance_ratio": [0.06, 0.18]}],
        "outputs": {"y": {"relative_rms": 0.98}},
    }
    describe.report(report, Output())
    shown = capsys.readouterr().out
    for words in ("100 samples", "4.06", "0.06 .. 0.18", "were replaced", "y by 0.98 of its spread"):
        assert words in shown, words


@pytest.mark.parametrize("output", [Output(json=True), Output(quiet=True)])
def test_silence(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    describe.report(sample_report(), output)
    assert capsys.readouterr().out == ""


def test_piped_tables_are_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    name = "scope/" * 60 + "bn"
    describe.report(sample_report(norms=[norm(name)]), Output())
    assert name in capsys.readouterr().out


def test_inspection(capsys: pytest.CaptureFixture[str]) -> None:
    found = Inspection(
        format="checkpoint", framework="tensorflow", variables=3, parameters=24,
        batch_norms=[norm("bn\x1b[31m", "kept", HealthCode.NEVER_UPDATED)],
    )  # fmt: skip
    describe.inspection(found, Output())
    shown = capsys.readouterr().out
    assert "-1 .. 1" in shown
    assert "never_updated" in shown
    assert "\x1b" not in shown
