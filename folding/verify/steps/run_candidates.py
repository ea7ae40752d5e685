"""What references and candidates answer on the probes."""

from __future__ import annotations

import numpy as np

from folding.errors import BnfoldError
from folding.report import VerificationRow
from folding.sources.base import Reference
from folding.verify import providers
from folding.verify.compare.rows import Answers, Candidate, row, run_all
from folding.verify.context import Study
from folding.verify.noise.ulp_noise import distance
from folding.verify.providers.cuda import ProviderLostError


def framework_answers(study: Study, reference: Reference | None) -> Answers | None:
    """The source framework's outputs on the first probes, and on the user's; it is closed then."""
    if reference is None:
        return None
    answers: Answers = {}
    for probe in study.probes[: study.effort.framework]:
        try:
            answers[probe.name] = reference.run(probe.feeds)
        except BnfoldError:
            raise
        except Exception as exc:  # noqa: BLE001 - the framework's own exceptions are many
            study.evidence.skipped.append(f"{probe.name} on {reference.name}: {str(exc).strip()[:200]}")
    reference.close()  # its copy of the weights is not needed again
    if not answers:
        why = "; ".join(study.evidence.skipped[-1:])
        study.evidence.gaps.append(f"{reference.name} answered none of the probes ({why})")
    return answers or None


def run_candidates(study: Study) -> list[Candidate]:
    """The artifact on every asked-for provider, variant and level."""
    found: list[Candidate] = []
    for name in dict.fromkeys([*study.options.providers, *study.options.require]):
        provider = providers.find(name)
        reason = provider.unavailable()
        for label, judged in provider.variants():
            for level in ("disable_all", "enable_all"):
                candidate = Candidate(label, level, judged, unavailable=reason or "")
                if reason is None:
                    run_candidate(study, provider, candidate)
                found.append(candidate)
        if (
            any(c.unavailable for c in found if c.provider.split()[0] == name)
            and name in study.options.require
        ):
            study.evidence.gaps.append(f"provider {name!r} is required and not available here")
    return found


def run_candidate(study: Study, provider: object, candidate: Candidate) -> None:
    """Open, run on all probes, and repeat one where the provider's determinism is in question."""
    try:
        session = provider.open(study.artifact.path, candidate.level, candidate.provider)  # type: ignore[attr-defined]
    except ProviderLostError as exc:
        candidate.unavailable = str(exc)
        return
    except Exception as exc:  # noqa: BLE001 - a model that does not load is a finding
        candidate.error = f"does not load: {str(exc).strip()[:300]}"
        return
    run_all(session.run, study.probes, candidate)
    if getattr(provider, "determinism", False) and not candidate.error:
        again = session.run(study.probes[0].feeds)
        first = candidate.answers[study.probes[0].name]
        candidate.figures["deterministic"] = all(
            np.array_equal(again[n], first[n], equal_nan=True) for n in first
        )


def float64_row(study: Study, answers: Answers, candidate: Candidate) -> VerificationRow:
    """Against float64, with both errors: the artifact may be nearer than its source."""
    narrow = {
        probe: {name: as_dtype(value, study.noise[name].dtype) for name, value in outputs.items()}
        for probe, outputs in answers.items()
    }
    made = row("float64", narrow, candidate, study)
    if candidate.answers and not candidate.error:
        mine = max(
            (n.float64_distance.get(p, 0.0) for n in study.noise.values() for p in answers), default=0.0
        )
        theirs = max(
            (distance(candidate.answers[p][n], answers[p][n]) for p in answers for n in study.noise),
            default=0.0,
        )
        made.figures.update(source_error=mine, artifact_error=theirs, ratio=theirs / mine if mine else None)
    return made


def as_dtype(value: np.ndarray, dtype: np.dtype[np.generic]) -> np.ndarray:
    """float64 answers keep their width (compared as they are); others take the output's dtype."""
    return value if dtype.kind == "f" else value.astype(dtype)
