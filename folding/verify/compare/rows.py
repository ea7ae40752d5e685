"""Rows of the report: one reference against one candidate session, over all probes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np

from folding.ir.types import Feeds
from folding.report import VerificationRow
from folding.verify.compare.outputs import Comparison, compare, summarize
from folding.verify.findings import reason
from folding.verify.noise.tolerance import Tolerance
from folding.verify.probes.generate import Probe
from folding.verify.providers.failures import ProviderLostError

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Answers = dict[str, Feeds]  # probe name -> outputs by name


@dataclass
class Candidate:
    """What the artifact answered on one provider at one level; `error` where it could not."""

    provider: str
    level: str
    judged: bool
    answers: Answers = field(default_factory=dict)
    error: str = ""
    unavailable: str = ""
    figures: dict[str, object] = field(default_factory=dict)


class OutputTolerances(Protocol):
    """Where a row takes its tolerances from."""

    def names(self) -> Iterable[str]:
        """Names of the outputs that are compared."""
        ...

    def tolerance(self, output: str, probe: str) -> Tolerance:
        """Tolerances of one output on one probe."""
        ...

    def sharpen(self, probe: str) -> bool:
        """Measure the noise of a probe better; False when there is no more to gain."""
        ...


def row(
    reference: str,
    expected: Answers,
    candidate: Candidate,
    limits: OutputTolerances,
) -> VerificationRow:
    """Compare on every probe that the reference answered.

    A variant that is not judged (TF32, whose own bound is not known here) is `reported`: its figures are
    shown, and no word calls them a failure.
    """
    made = _compared(reference, expected, candidate, limits)
    if not made.judged and made.status in ("pass", "fail"):
        made.status = "reported"
    return made


def _compared(
    reference: str, expected: Answers, candidate: Candidate, limits: OutputTolerances
) -> VerificationRow:
    made = VerificationRow(
        reference=reference,
        provider=candidate.provider,
        optimization_level=candidate.level,
        status="pass",
        judged=candidate.judged,
        figures=dict(candidate.figures),
    )
    if candidate.unavailable:
        made.status, made.detail = "unavailable", candidate.unavailable
        return made
    if candidate.error:
        made.status, made.detail = "fail", candidate.error
        return made
    found: dict[str, list[Comparison]] = {name: [] for name in limits.names()}
    uncompared: list[str] = []
    for probe, outputs in expected.items():
        answer = candidate.answers.get(probe)
        if answer is None:
            made.status, made.detail = "fail", f"no answer on probe {probe!r}"
            continue
        for name in limits.names():
            if name not in outputs:
                continue
            try:
                found[name].append(
                    compare_with_refined_noise(limits, name, probe, outputs[name], answer[name])
                )
            except Exception as exc:  # noqa: BLE001 - what could not be compared is not a difference
                uncompared.append(f"{name!r} on probe {probe!r} was not compared: {reason(exc)}")
    made.outputs = [summarize(list_) for list_ in found.values() if list_]
    made.figures["probes"] = len(expected)
    if made.status == "fail" or not all(output.passed for output in made.outputs):
        made.status = "fail"
    elif not made.outputs:
        made.status, made.detail = "not_compared", "; ".join(uncompared[:3]) or "no output to compare"
    elif uncompared:
        made.detail = "; ".join(uncompared[:3])
    return made


def compare_with_refined_noise(
    limits: OutputTolerances, name: str, probe: str, reference: Array, candidate: Array
) -> Comparison:
    """Compare; before a failure stands, the noise is measured, and then that of the probe better."""
    result = compare(name, probe, reference, candidate, limits.tolerance(name, probe))
    while not result.passed and np.isfinite(result.max_abs) and limits.sharpen(probe):
        result = compare(name, probe, reference, candidate, limits.tolerance(name, probe))
    return result


def run_all(
    session_run: Callable[[Feeds], Feeds], probes: Sequence[Probe], candidate: Candidate
) -> Candidate:
    """Fill a candidate's answers; the first error ends it, a lost device makes it unavailable."""
    for probe in probes:
        try:
            candidate.answers[probe.name] = session_run(probe.feeds)
        except ProviderLostError as exc:  # the device's doing, which says nothing about the artifact
            candidate.unavailable = str(exc)
            candidate.answers.clear()
            break
        except Exception as exc:  # noqa: BLE001 - any failure to run is a finding about the artifact
            candidate.error = f"probe {probe.name!r}: {str(exc).strip()[:300]}"
            break
    return candidate
