"""From rows to one word. `pass` needs evidence; what was not looked at is never `ok`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from folding.report import (
    Conditioning,
    DriftRow,
    Hazard,
    OutputComparison,
    Verdict,
    Verification,
    VerificationRow,
    figures,
)
from folding.verify.compare.coverage import conditioning_of, coverage_of, ill_conditioned, segment_reports
from folding.verify.compare.layers import LayerCheck
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
    """What all stages returned. layers: None where the comparison layer by layer did not take place.

    amplification: the drift on the probe on which passing outputs differ most.
    """

    rows: tuple[VerificationRow, ...] = ()
    probes: ProbeSet = field(default_factory=ProbeSet)
    sensitivity: Sensitivity = field(default_factory=Sensitivity)
    layers: LayerCheck | None = None
    drift: tuple[DriftRow, ...] = ()
    amplification: tuple[DriftRow, ...] = ()
    hazards: tuple[Hazard, ...] = ()
    latency: dict[str, Any] | None = None
    certificates: int = 0
    unit_roundoff: float = 2.0**-24
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
    conditioning = conditioning_in(outcome, passed) if verdict is Verdict.PASS else []
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
        hazards=[*outcome.hazards, *(ill_conditioned(found) for found in conditioning)],
        latency=outcome.latency,
        segments=segment_reports(outcome.layers) if outcome.layers else [],
        coverage=coverage_of(outcome.layers) if outcome.layers else None,
        conditioning=conditioning,
    )


def conditioning_in(outcome: Outcome, passed: list[VerificationRow]) -> list[Conditioning]:
    """Return `ill_conditioned` where every segment holds and the outputs still move much."""
    end_to_end = [row for row in passed if row.reference not in (LAYERWISE, EXACT_LAYERS, BRANCHES)]
    return conditioning_of(end_to_end, outcome.amplification or outcome.drift, outcome.unit_roundoff)


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
    """What differs, where, by how much, and what is allowed; then which step is to blame."""
    parts = list(outcome.findings.faults)
    for row in failed[:3]:
        bad = [o for o in row.outputs if not o.passed][:1]
        where = difference_words(bad[0]) if bad else row.detail
        parts.append(f"{where} ({row.provider} at {row.optimization_level} against {row.reference})")
    if outcome.layers and outcome.layers.first_divergence:
        parts.append(f"first divergence at {outcome.layers.first_divergence!r}")
    elif failed and (step := blamed(outcome, failed)):
        parts.append(step)
    ways = [hazard.workaround for hazard in outcome.hazards if hazard.workaround]
    if failed and ways:
        parts.append(f"way around: {ways[0]}")
    return "not equivalent: " + "; ".join(parts)


def difference_words(output: OutputComparison) -> str:
    """One output's difference beside what is allowed, both of the output's scale."""
    scale = output.max_abs / output.max_rel if output.max_rel else 0.0
    allowed = output.tolerance.atol / scale if scale and scale == scale else 0.0
    shown = f", {allowed:.2g} allowed" if 0 < allowed < float("inf") else f": {output.tolerance.why[:80]}"
    return f"{output.name!r} is off by {output.max_rel:.2g} of its scale{shown}"


def blamed(outcome: Outcome, failed: list[VerificationRow]) -> str | None:
    """Which step differs where every segment of the fold holds: the runtime or the conversion."""
    if outcome.layers is None or not outcome.layers.fold:
        return None
    levels = {(row.provider, row.optimization_level) for row in failed}
    if all(level == "enable_all" for _, level in levels):
        return "every layer of the fold agrees, so the runtime's optimizations are to blame"
    ours = {"onnx-unfolded", "float64", LAYERWISE, EXACT_LAYERS, BRANCHES}
    if not any(row.reference in ours for row in failed):
        return "every layer of the fold agrees, so the conversion is to blame"
    return None


def pass_words(outcome: Outcome, rows: int) -> str:
    """What the pass rests on."""
    if outcome.sensitivity.constant:
        return f"equivalent on {rows} comparisons; the outputs do not depend on the inputs"
    proved = f"; {outcome.certificates} certificates hold" if outcome.certificates else ""
    return (
        f"equivalent: {rows} comparisons over {len(outcome.sensitivity.reacting)} probes agree"
        f"{bounded_words(outcome)}{largest_words(outcome)}{proved}"
    )


def bounded_words(outcome: Outcome) -> str:
    """How much of the fold sound bounds decide."""
    found = coverage_of(outcome.layers) if outcome.layers else None
    if found is None or not found.segments:
        return ""
    undecided = f", {figures.count(found.undecided)} elements undecided" if found.undecided else ""
    return f"; {found.bounded} of {found.segments} layers proved by sound bounds{undecided}"


def largest_words(outcome: Outcome) -> str:
    """The largest difference of an output, end to end, of its scale: the one definition everywhere."""
    inner = (LAYERWISE, EXACT_LAYERS, BRANCHES)
    judged = [r for r in outcome.rows if r.judged and r.reference not in inner]
    worst = max((o.max_rel for r in judged for o in r.outputs), default=0.0)
    if worst < 64 * outcome.unit_roundoff:
        return f"; outputs are equal up to rounding ({worst:.1g} of their scale)"
    return f"; largest difference of an output {worst:.2g} of its scale"
