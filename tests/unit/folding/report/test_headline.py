"""The headline says the verdict and the health together, with verbs that agree."""

from __future__ import annotations

import pytest

from folding.report import (
    GraphReport,
    Headline,
    HeadlineState,
    Health,
    HealthCode,
    NormReport,
    Report,
    SourceReport,
    Verdict,
)
from folding.report.headline import ORDER, SENTENCES, headline, inspection_headline
from folding.report.render import words


def norm(name: str, *codes: HealthCode, severity: str = "warning", **figures: object) -> NormReport:
    health = [
        Health(code=code, severity=severity, evidence="e", remedy=f"fix {code.value}", figures=figures)  # type: ignore[arg-type]
        for code in codes
    ]
    healthy = [Health(code=HealthCode.OK, severity="ok", evidence="fine")]
    return NormReport(name=name, spelling="test", decision="folded", health=health or healthy)


def report(*norms: NormReport, verdict: Verdict = Verdict.PASS, **more: object) -> Report:
    return Report(
        verdict=verdict,
        source=SourceReport(format="onnx", framework="test"),
        graph=GraphReport(opset=17, nodes_before=2, nodes_after=1, batch_norms_before=1, batch_norms_after=0),
        batch_norms=list(norms),
        **more,  # type: ignore[arg-type]
    )


def test_every_code_but_ok_has_a_place_and_a_sentence() -> None:
    assert set(ORDER) == set(SENTENCES) == set(HealthCode) - {HealthCode.OK}


def test_every_state_has_a_mark() -> None:
    assert set(words.MARKS) == set(HeadlineState)


@pytest.mark.parametrize(
    ("count", "title"),
    [
        (0, "Equivalent; the model has no batch norm"),
        (1, "Equivalent; its batch norm looks healthy"),
        (2, "Equivalent; both batch norms look healthy"),
        (3400, "Equivalent; all 3,400 batch norms look healthy"),
    ],
)
def test_healthy(count: int, title: str) -> None:
    found = headline(report(*(norm(f"n{i}") for i in range(count))))
    assert found == Headline(state=HeadlineState.HEALTHY, title=title)


@pytest.mark.parametrize(
    ("sick", "total", "words"),
    [
        (1, 1, "the model looks untrained: the only batch norm was never updated"),
        (1, 53, "the model looks untrained: 1 of 53 batch norms was never updated"),
        (53, 53, "the model looks untrained: 53 of 53 batch norms were never updated"),
    ],
)
def test_never_updated(sick: int, total: int, words: str) -> None:
    norms = [norm(f"n{i}", *[HealthCode.NEVER_UPDATED] * (i < sick)) for i in range(total)]
    found = headline(report(*norms))
    assert found.state is HeadlineState.UNHEALTHY
    assert found.title == f"Equivalent, but {words}"
    assert found.code is HealthCode.NEVER_UPDATED
    assert found.remedy == "Fix never_updated."
    assert inspection_headline(norms).title == words[0].upper() + words[1:]


def test_the_worst_finding_leads() -> None:
    norms = [norm("a", HealthCode.DEGENERATE_VARIANCE), norm("b", HealthCode.MISSING_FROM_CHECKPOINT)]
    found = headline(report(*norms))
    assert found.title == (
        "Equivalent, but the moving statistics of 1 of 2 batch norms are not in the checkpoint"
    )


def test_training_that_never_normalized_is_not_called_untrained() -> None:
    found = headline(report(norm("a", HealthCode.NEVER_UPDATED, used_in_training=True)))
    assert found.state is HeadlineState.UNHEALTHY
    assert "untrained" not in found.title
    assert "never normalized in training" in found.title


def test_a_recalibrated_model_says_how_far_its_output_moved() -> None:
    calibration = {"applied": True, "outputs": {"y": {"relative_rms": 0.98123}, "z": {"relative_rms": 0.1}}}
    found = headline(report(norm("a"), calibration=calibration))
    assert found.title == (
        "Equivalent to the recalibrated model; its output differs from the original by up to 0.98 of its "
        "spread; its batch norm looks healthy"
    )


def test_measured_but_not_applied_data_changes_nothing() -> None:
    calibration = {"applied": False, "outputs": {"y": {"relative_rms": 0.5}}}
    assert headline(report(norm("a"), calibration=calibration)).title.startswith("Equivalent; ")


@pytest.mark.parametrize(
    ("verdict", "state"),
    [(Verdict.FAIL, HeadlineState.NOT_EQUIVALENT), (Verdict.INCONCLUSIVE, HeadlineState.NOT_SHOWN)],
)
def test_without_a_pass_health_never_leads(verdict: Verdict, state: HeadlineState) -> None:
    found = headline(report(norm("a", HealthCode.NEVER_UPDATED), verdict=verdict, summary="the reason"))
    assert found.state is state
    assert not found.title.startswith("Equivalent,")
    assert found.detail == "The reason."
