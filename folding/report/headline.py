"""State in one sentence what a report means: the verdict and the health of the statistics together.

A verdict alone is not enough: the exact fold of an untrained model is a correct artifact of a useless model.
Every face (page, jobs list, release, command, Markdown, JUnit, CI annotation, bundle, attestation) shows this
headline, so that none of them shows a green mark over unhealthy statistics.
"""

from __future__ import annotations

from collections.abc import Sequence

from folding.report import figures
from folding.report.records import Headline, HeadlineState, HealthCode, NormReport, Report
from folding.report.verification_records import Verdict

# What a reader should hear about first, when several findings come together: worst first.
ORDER = (
    HealthCode.NON_FINITE,
    HealthCode.NEGATIVE_VARIANCE,
    HealthCode.MISSING_FROM_CHECKPOINT,
    HealthCode.NEVER_UPDATED,
    HealthCode.BATCH_STATISTICS_AT_INFERENCE,
    HealthCode.LAGGING,
    HealthCode.DEGENERATE_VARIANCE,
)
# `{share}` is "3 of 53 batch norms"; the verbs agree with its number.
SENTENCES = {
    HealthCode.NON_FINITE: "{share} {have} NaN or infinite statistics",
    HealthCode.NEGATIVE_VARIANCE: "{share} {have} a negative variance",
    HealthCode.MISSING_FROM_CHECKPOINT: "the moving statistics of {share} are not in the checkpoint",
    HealthCode.NEVER_UPDATED: "the model looks untrained: {share} {were} never updated",
    HealthCode.BATCH_STATISTICS_AT_INFERENCE: "{share} {use} the statistics of each batch at inference",
    HealthCode.LAGGING: "the moving statistics of {share} disagree with the calibration data",
    HealthCode.DEGENERATE_VARIANCE: "{share} {have} channels with almost no variance",
}


# Never updated and never needed: training used the initial values too, so inference is as trained.
PLAIN_AFFINE = "{share} {were} never updated and never normalized in training: plain scale and shift"


def headline(report: Report) -> Headline:
    """Return the headline of a finished report. Pure: reads records, computes no tensor."""
    if report.verdict is Verdict.FAIL:
        title = "Not equivalent: the artifact differs from the source"
        return Headline(
            state=HeadlineState.NOT_EQUIVALENT, title=title, detail=_sentence(report.summary),
            remedy="Do not deploy this artifact. It is kept in quarantine.",
        )  # fmt: skip
    if report.verdict is Verdict.INCONCLUSIVE:
        return Headline(
            state=HeadlineState.NOT_SHOWN, title="Equivalence was not shown",
            detail=_sentence(report.summary), remedy="Supply what the reason names, then run it again.",
        )  # fmt: skip
    finding = statistics(report.batch_norms)
    equal = _equivalent(report)
    detail = _sentence(report.summary)
    if finding is None:
        return Headline(
            state=HeadlineState.HEALTHY, title=_title(equal, _healthy(report.batch_norms)), detail=detail
        )
    return Headline(
        state=HeadlineState.UNHEALTHY, title=f"{equal}, but {finding[1]}", detail=detail,
        code=finding[0], remedy=_sentence(finding[2]),
    )  # fmt: skip


def inspection_headline(norms: Sequence[NormReport]) -> Headline:
    """Return the headline of an inspection: health only, since nothing was folded or compared."""
    finding = statistics(norms)
    if finding is None:
        title = "No batch norm was found" if not norms else _sentence(_healthy(norms)).rstrip(".")
        return Headline(state=HeadlineState.HEALTHY, title=title)
    return Headline(
        state=HeadlineState.UNHEALTHY, title=_sentence(finding[1]).rstrip("."), code=finding[0],
        remedy=_sentence(finding[2]),
    )  # fmt: skip


def statistics(norms: Sequence[NormReport]) -> tuple[HealthCode, str, str] | None:
    """Return (code, sentence, remedy) of the finding that matters most; None when all are healthy."""
    for code in ORDER:
        found = [
            (norm, item)
            for norm in norms
            for item in norm.health
            if item.code is code and item.severity != "ok"
        ]
        if found:
            plain = all(item.figures.get("used_in_training") for _, item in found)
            sentence = PLAIN_AFFINE if plain else SENTENCES[code]
            share = _share(len({id(norm) for norm, _ in found}), len(norms))
            return code, sentence.format_map(share), found[0][1].remedy
    return None


def _share(count: int, total: int) -> dict[str, str]:
    one = count == 1
    if total == 1:
        share = "the only batch norm"
    else:
        share = f"{figures.count(count)} of {figures.count(total)} batch norms"
    return {
        "share": share,
        "were": "was" if one else "were",
        "have": "has" if one else "have",
        "use": "uses" if one else "use",
    }


def _equivalent(report: Report) -> str:
    """Return what the artifact is equivalent to: the source, or the recalibrated source."""
    calibration = report.calibration or {}
    if not calibration.get("applied"):
        return "Equivalent"
    shares = [
        float(row["relative_rms"])
        for row in (calibration.get("outputs") or {}).values()
        if isinstance(row, dict) and isinstance(row.get("relative_rms"), (int, float))
    ]
    if not shares:
        return "Equivalent to the recalibrated model"
    moved = f"{max(shares):.2g}"
    return (
        f"Equivalent to the recalibrated model; its output differs from the original by up to {moved} "
        "of its spread"
    )


def _title(equal: str, healthy: str) -> str:
    return f"{equal}; {healthy}"


def _healthy(norms: Sequence[NormReport]) -> str:
    if not norms:
        return "the model has no batch norm"
    if len(norms) == 1:
        return "its batch norm looks healthy"
    if len(norms) == 2:
        return "both batch norms look healthy"
    return f"all {figures.count(len(norms))} batch norms look healthy"


def _sentence(text: str) -> str:
    """Return the text with a capital and a full stop."""
    text = text.strip()
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")
