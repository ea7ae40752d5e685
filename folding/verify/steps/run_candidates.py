"""What references and candidates answer on the probes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from folding.artifact_files import ort_format_of
from folding.errors import BnfoldError
from folding.ort import OrtSession
from folding.report import VerificationRow
from folding.sources.base import Reference
from folding.verify import providers
from folding.verify.compare.rows import Answers, Candidate, row, run_all
from folding.verify.context import GraphPair, ProbeSet
from folding.verify.findings import Findings, reason
from folding.verify.noise.measure import NoiseModel
from folding.verify.noise.ulp_noise import distance
from folding.verify.providers.base import DEFAULTS, ORT_FORMAT, Provider, Session
from folding.verify.providers.failures import ProviderLostError


@dataclass(frozen=True)
class FrameworkAnswers:
    """What the source framework answered, by probe; empty where there is none."""

    answers: Answers = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)


@dataclass(frozen=True)
class CandidateRuns:
    """The artifact on every provider, variant and level.

    sessions: those at the runtime's defaults by (provider, variant), kept only where latency is measured.
    """

    candidates: tuple[Candidate, ...] = ()
    sessions: Mapping[tuple[str, str], Session] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)


def framework_answers(probes: ProbeSet, reference: Reference | None) -> FrameworkAnswers:
    """The source framework's outputs on the first probes, and on the user's; it is closed then."""
    if reference is None:
        return FrameworkAnswers()
    answers: Answers = {}
    skipped: list[str] = []
    for probe in probes.probes[: probes.effort.framework]:
        try:
            answers[probe.name] = reference.run(probe.feeds)
        except BnfoldError:
            raise
        except Exception as exc:  # noqa: BLE001 - the framework's own exceptions are many
            skipped.append(f"{probe.name} on {reference.name}: {reason(exc)}")
    reference.close()  # its copy of the weights is not needed again
    gaps = [] if answers else [f"{reference.name} answered none of the probes ({'; '.join(skipped[-1:])})"]
    return FrameworkAnswers(answers, Findings(gaps=tuple(gaps), skipped=tuple(skipped)))


def run_candidates(pair: GraphPair, probes: ProbeSet) -> CandidateRuns:
    """The artifact on every asked-for provider, variant and level."""
    found: list[Candidate] = []
    sessions: dict[tuple[str, str], Session] = {}
    gaps: list[str] = []
    for name in dict.fromkeys([*pair.options.providers, *pair.options.require]):
        provider = providers.find(name)
        missing = provider.unavailable()
        for label, judged in provider.variants():
            for level in ("disable_all", DEFAULTS):
                candidate = Candidate(label, level, judged, unavailable=missing or "")
                session = run_candidate(pair, probes, provider, candidate) if missing is None else None
                if session is not None:
                    sessions[name, label] = session
                found.append(candidate)
        if (
            any(c.unavailable for c in found if c.provider.split()[0] == name)
            and name in pair.options.require
        ):
            gaps.append(f"provider {name!r} is required and not available here")
    if pair.options.ort_format:
        found.append(run_ort_format(pair, probes))
    return CandidateRuns(tuple(found), sessions, Findings(gaps=tuple(gaps)))


def run_ort_format(pair: GraphPair, probes: ProbeSet) -> Candidate:
    """The artifact in ORT format on the CPU provider: what its optimizers made of it, judged as any other."""
    candidate = Candidate("cpu", ORT_FORMAT, judged=True)
    try:
        session = OrtSession(ort_format_of(pair.artifact.path), DEFAULTS)
    except Exception as exc:  # noqa: BLE001 - a model that does not load is a finding
        candidate.error = f"does not load: {reason(exc, 300)}"
        return candidate
    run_all(session.run, probes.probes, candidate)
    return candidate


def run_candidate(
    pair: GraphPair, probes: ProbeSet, provider: Provider, candidate: Candidate
) -> Session | None:
    """Open, run on all probes, and repeat one where the provider's determinism is in question.

    Returns: the session where its latency will be measured, else None: a session holds the weights, and the
        next one opens only when it is gone.
    """
    try:
        session = provider.open(pair.artifact.path, candidate.level, candidate.provider)
    except ProviderLostError as exc:
        candidate.unavailable = str(exc)
        return None
    except Exception as exc:  # noqa: BLE001 - a model that does not load is a finding
        candidate.error = f"does not load: {reason(exc, 300)}"
        return None
    run_all(session.run, probes.probes, candidate)
    if getattr(provider, "determinism", False) and not candidate.error and not candidate.unavailable:
        again = session.run(probes.first.feeds)
        first = candidate.answers[probes.first.name]
        candidate.figures["deterministic"] = all(
            np.array_equal(again[n], first[n], equal_nan=True) for n in first
        )
    return session if pair.options.latency and candidate.level == DEFAULTS else None


def float64_row(noise: NoiseModel, answers: Answers, candidate: Candidate) -> VerificationRow:
    """Against float64, with both errors: the artifact may be nearer than its source."""
    narrow = {
        probe: {name: as_dtype(value, noise.outputs[name].dtype) for name, value in outputs.items()}
        for probe, outputs in answers.items()
    }
    made = row("float64", narrow, candidate, noise)
    if candidate.answers and not candidate.error:
        mine = max(
            (n.float64_distance.get(p, 0.0) for n in noise.outputs.values() for p in answers), default=0.0
        )
        theirs = max(
            (distance(candidate.answers[p][n], found[n]) for p, found in answers.items() for n in found),
            default=0.0,
        )
        made.figures.update(source_error=mine, artifact_error=theirs, ratio=theirs / mine if mine else None)
    return made


def as_dtype(value: np.ndarray, dtype: np.dtype[np.generic]) -> np.ndarray:
    """float64 answers keep their width (compared as they are); others take the output's dtype."""
    return value if dtype.kind == "f" else value.astype(dtype)
