"""From rows to one word. `pass` needs evidence; what was not looked at is never `ok`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from folding.report import DriftRow, Hazard, Verdict, Verification, VerificationRow
from folding.verify.compare.segments import LayerCheck
from folding.verify.context import ProbeSet
from folding.verify.findings import Findings
from folding.verify.steps.check_sensitivity import Sensitivity

LAYERWISE = "onnx-unfolded, layer by layer"
EXACT_LAYERS = "float64, layer by layer"
BRANCHES = "onnx-unfolded, branches forced"
INSENSITIVE = (
    "The outputs did not change for any test input, so the comparison proves nothing. "
    "Supply representative inputs with --probe."
)


@dataclass(frozen=True)
class Outcome:
    """What all stages returned. layers: None where the comparison layer by layer did not take place."""

    rows: tuple[VerificationRow, ...] = ()
    probes: ProbeSet = field(default_factory=ProbeSet)
    sensitivity: Sensitivity = field(default_factory=Sensitivity)
    layers: LayerCheck | None = None
    drift: tuple[DriftRow, ...] = ()
    hazards: tuple[Hazard, ...] = ()
    latency: dict[str, Any] | None = None
    certificates: int = 0
    findings: Findings = field(default_factory=Findings)


def conclude(outcome: Outcome) -> Verification:
    """The verification with its verdict and a summary that says what it rests on."""
    judged = [row for row in outcome.rows if row.judged]
    failed = [row for row in judged if row.status == "fail"]
    passed = [row for row in judged if row.status == "pass"]
    gaps = [*outcome.findings.gaps, *missing_evidence(outcome, failed, passed)]
    if failed or outcome.findings.faults:
        verdict, words = Verdict.FAIL, failure_words(outcome, failed)
    elif gaps:
        verdict, words = Verdict.INCONCLUSIVE, "; ".join(gaps)
    else:
        verdict, words = Verdict.PASS, pass_words(outcome, len(passed))
    absent = {f"{r.provider} not checked: {r.detail}" for r in judged if r.status == "unavailable"}
    remarks = [*outcome.findings.notes, *outcome.findings.limits, *sorted(absent)]
    reacting = outcome.sensitivity.reacting
    return Verification(
        verdict=verdict,
        summary="; ".join([words, *remarks]),
        rows=with_effort(outcome),
        probes=[{**p.record(), "evidence": p.name in reacting} for p in outcome.probes.probes],
        drift=list(outcome.drift),
        first_divergence=outcome.layers.first_divergence if outcome.layers else None,
        hazards=list(outcome.hazards),
        latency=outcome.latency,
    )


def missing_evidence(
    outcome: Outcome, failed: list[VerificationRow], passed: list[VerificationRow]
) -> list[str]:
    """What a `pass` lacks although nothing failed."""
    gaps = []
    sensitivity = outcome.sensitivity
    if outcome.probes.probes and not sensitivity.reacting and not sensitivity.constant:
        gaps.append(INSENSITIVE)
    end_to_end = any(row.reference not in (LAYERWISE, EXACT_LAYERS, BRANCHES) for row in passed)
    if not failed and not gaps and not outcome.findings.gaps and not end_to_end:
        gaps.append("nothing was compared end to end")
    return gaps


def with_effort(outcome: Outcome) -> list[VerificationRow]:
    """Return the rows; the first one says what was run and what was left out."""
    if not outcome.rows:
        return []
    figures: dict[str, object] = {"effort": outcome.probes.effort.words()}
    if outcome.findings.skipped:
        figures["left_out"] = list(outcome.findings.skipped)
    first = outcome.rows[0]
    return [first.model_copy(update={"figures": {**first.figures, **figures}}), *outcome.rows[1:]]


def failure_words(outcome: Outcome, failed: list[VerificationRow]) -> str:
    """Which rows failed, where, and by how much."""
    parts = list(outcome.findings.faults)
    for row in failed[:3]:
        bad = [o for o in row.outputs if not o.passed][:1]
        where = f": {bad[0].name!r} is off by {bad[0].max_rel:.2g} of its scale" if bad else f": {row.detail}"
        parts.append(f"{row.provider} at {row.optimization_level} against {row.reference}{where}")
    if outcome.layers and outcome.layers.first_divergence:
        parts.append(f"first divergence at {outcome.layers.first_divergence!r}")
    return "not equivalent: " + "; ".join(parts)


def pass_words(outcome: Outcome, rows: int) -> str:
    """What the pass rests on."""
    if outcome.sensitivity.constant:
        return f"equivalent on {rows} comparisons; the outputs do not depend on the inputs"
    worst = max((o.max_rel for r in outcome.rows for o in r.outputs if r.judged), default=0.0)
    proved = f"; {outcome.certificates} certificates hold" if outcome.certificates else ""
    return (
        f"equivalent: {rows} comparisons over {len(outcome.sensitivity.reacting)} probes agree, "
        f"largest difference {worst:.2g} of an output's scale{proved}"
    )
