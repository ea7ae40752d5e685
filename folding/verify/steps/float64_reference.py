"""Answers in float64: the reference that neither side's rounding touches, and the source's own error."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from folding.report import figures
from folding.verify.compare.rows import Answers
from folding.verify.context import GraphPair, ProbeSet
from folding.verify.findings import Findings, reason
from folding.verify.float64 import evaluate
from folding.verify.noise.measure import NoiseModel
from folding.verify.noise.ulp_noise import Noise, distance

# float64 evaluation in numpy costs about this many float32 runs of ONNX Runtime (measured on ResNet50).
COST = 6.0
SECONDS = 1.5
TRUSTED = 50.0


@dataclass(frozen=True)
class Float64Answers:
    """answers: by probe, empty where not to be had. distances: probe -> output -> the source's own error."""

    answers: Answers = field(default_factory=dict)
    distances: dict[str, dict[str, float]] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)


def float64_answers(
    pair: GraphPair, probes: ProbeSet, model: NoiseModel, proved: bool = False
) -> Float64Answers:
    """Evaluate the source on the cheapest probes; an evaluation that noise does not explain is left out.

    proved: sound bounds hold for every layer of the fold: one probe is enough.
    """
    noises = model.outputs
    estimate = probes.effort.seconds * COST
    if estimate > SECONDS:
        return unavailable(f"it would take about {figures.seconds(estimate)}")
    wanted = 1 if proved else max(1, min(4, int(SECONDS / 3 / max(estimate, 1e-3))))
    answers: Answers = {}
    limits: list[str] = []
    deadline = time.perf_counter() + 2 * SECONDS
    cheapest = sorted(probes.probes, key=lambda probe: sum(a.size for a in probe.feeds.values()))
    for probe in cheapest[:wanted]:
        try:
            answers[probe.name] = evaluate(pair.source, probe.feeds, deadline=deadline)
        except Exception as exc:  # noqa: BLE001 - the evaluator is ours: what it cannot do is nobody's fault
            if not answers:
                limits.append(f"float64 left out: {reason(exc)}")
            break
    limits += drop_overflown(probes, answers)
    limits += drop_unproved(probes, answers, noises)
    doubt = distrust(probes, answers, noises)
    if doubt and not model.measured:
        model.measure()
        doubt = distrust(probes, answers, noises)
    if doubt:
        limits.append(doubt)
        answers = {}
    distances = {
        probe: {
            name: distance(probes.answers[probe][name], outputs[name]) for name in noises if name in outputs
        }
        for probe, outputs in answers.items()
    }
    return Float64Answers(answers, distances, Findings(limits=tuple(limits)))


def unavailable(why: str) -> Float64Answers:
    """Return no answers, and why."""
    return Float64Answers(findings=Findings(limits=(f"float64 left out: {why}",)))


def drop_overflown(probes: ProbeSet, answers: Answers) -> list[str]:
    """Leave out probes on which the source itself leaves the range of its dtype: float64 does not, and the
    two then differ for a reason that is nobody's fault (a softmax written out, on large inputs; a maximum
    of minus infinities, which runtimes begin at the lowest number)."""
    limits = []
    for probe in list(answers):
        for name, exact in answers[probe].items():
            own = probes.answers[probe][name]
            if own.dtype.kind != "f" or exact.dtype.kind != "f" or own.shape != exact.shape:
                continue
            if (np.isfinite(exact) != np.isfinite(own)).any():
                limits.append(
                    f"float64 left out on probe {probe!r}: {name!r} of the source leaves its range there"
                )
                del answers[probe]
                break
    return limits


def drop_unproved(probes: ProbeSet, answers: Answers, noises: Mapping[str, Noise]) -> list[str]:
    """Leave out integer, boolean and string outputs in which the evaluation differs from the source's run.

    An index behind a rounding may differ with good reason, and an operator may be evaluated wrongly: in
    neither case is the evaluation a measure of the artifact.
    """
    wrong: dict[str, None] = {}
    for probe, outputs in answers.items():
        for name, noise in noises.items():
            own = probes.answers[probe][name]
            if noise.dtype.kind == "f" or name not in outputs:
                continue
            if own.shape != outputs[name].shape or (own != outputs[name]).any():
                wrong[name] = None
    for outputs in answers.values():
        for name in wrong:
            outputs.pop(name, None)
    for probe in [probe for probe, outputs in answers.items() if not outputs]:
        del answers[probe]
    return [f"float64 left out for {name!r}: it is not what the source answers" for name in wrong]


def distrust(probes: ProbeSet, answers: Answers, noises: Mapping[str, Noise]) -> str | None:
    """Why the evaluation is not a reference: it is further off the source's own run than noise explains."""
    for name, noise in noises.items():
        if noise.dtype.kind != "f":
            continue
        for probe, outputs in answers.items():
            if name not in outputs:
                continue
            own = probes.answers[probe][name]
            error = distance(own, outputs[name])
            if outputs[name].shape != own.shape or error > TRUSTED * noise.of(probe):
                return (
                    f"float64 left out: on {name!r} it is {error:.2g} from the source's float32 "
                    f"(scale {noise.scales[probe]:.2g}), more than the measured noise "
                    f"{noise.of(probe):.2g} explains"
                )
    return None
