"""From rows to one word. `pass` needs evidence; what was not looked at is never `ok`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from folding.report import Verdict, Verification

LAYERWISE = "onnx-unfolded, layer by layer"
EXACT_LAYERS = "float64, layer by layer"
BRANCHES = "onnx-unfolded, branches forced"

if TYPE_CHECKING:
    from folding.verify.context import Study


@dataclass
class Evidence:
    """What stands against a pass. faults: the artifact is wrong. gaps: something needed could not be checked.

    reacting: probes that some output reacts to. constant: no output depends on any input, by the graph.
    """

    faults: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    reacting: list[str] = field(default_factory=list)
    constant: bool = False
    certificates: int = 0


def conclude(study: Study) -> Verification:
    """The verification with its verdict and a summary that says what it rests on."""
    evidence = study.evidence
    judged = [row for row in study.rows if row.judged]
    failed = [row for row in judged if row.status == "fail"]
    absent = [row for row in judged if row.status == "unavailable"]
    passed = [row for row in judged if row.status == "pass"]
    if study.probes and not evidence.reacting and not evidence.constant:
        evidence.gaps.append(
            "no output reacts to any probe: equal outputs prove nothing here; give --probe DATA.npz"
        )
    if (
        not failed
        and not evidence.gaps
        and not any(row.reference not in (LAYERWISE, EXACT_LAYERS, BRANCHES) for row in passed)
    ):
        evidence.gaps.append("nothing was compared end to end")
    if failed or evidence.faults:
        verdict, words = Verdict.FAIL, failure_words(study, failed)
    elif evidence.gaps:
        verdict, words = Verdict.INCONCLUSIVE, "; ".join(evidence.gaps)
    else:
        verdict, words = Verdict.PASS, pass_words(study, len(passed))
    limits = sorted({f"{row.provider} not checked: {row.detail}" for row in absent})
    words = "; ".join([words, *evidence.notes, *evidence.limits, *limits])
    layers = study.layers
    if study.rows:
        study.rows[0].figures["effort"] = study.effort.words()
        if evidence.skipped:
            study.rows[0].figures["left_out"] = evidence.skipped
    return Verification(
        verdict=verdict,
        summary=words,
        rows=study.rows,
        probes=[{**probe.record(), "evidence": probe.name in evidence.reacting} for probe in study.probes],
        drift=layers.drift if layers else [],
        first_divergence=layers.first_divergence if layers else None,
        hazards=study.hazards,
        latency=study.latency,
    )


def failure_words(study: Study, failed: list) -> str:  # type: ignore[type-arg]
    """Which rows failed, where, and by how much."""
    parts = list(study.evidence.faults)
    for row in failed[:3]:
        bad = [o for o in row.outputs if not o.passed][:1]
        where = f": {bad[0].name!r} is off by {bad[0].max_rel:.2g} of its scale" if bad else f": {row.detail}"
        parts.append(f"{row.provider} at {row.optimization_level} against {row.reference}{where}")
    if study.layers and study.layers.first_divergence:
        parts.append(f"first divergence at {study.layers.first_divergence!r}")
    return "not equivalent: " + "; ".join(parts)


def pass_words(study: Study, rows: int) -> str:
    """What the pass rests on."""
    if study.evidence.constant:
        return f"equivalent on {rows} comparisons; the outputs do not depend on the inputs"
    worst = max((o.max_rel for r in study.rows for o in r.outputs if r.judged), default=0.0)
    proved = f"; {study.evidence.certificates} certificates hold" if study.evidence.certificates else ""
    return (
        f"equivalent: {rows} comparisons over {len(study.evidence.reacting)} probes agree, "
        f"largest difference {worst:.2g} of an output's scale{proved}"
    )
