"""The model in float64, by our own evaluation: the reference that neither side's rounding touches.

Operators that we do not evaluate ourselves go one by one through onnx's reference implementation; an answer
of theirs that is not float64 is refused, so nothing is ever float32 in silence.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from folding.sources.base import Feeds
from folding.verify.compare.rows import Answers
from folding.verify.compare.segments import Engine
from folding.verify.float64.evaluator import Float64UnavailableError, evaluate
from folding.verify.model import Loaded
from folding.verify.noise.ulp_noise import distance

if TYPE_CHECKING:
    from folding.verify.context import Study

# float64 evaluation in numpy costs about this many float32 runs of ONNX Runtime (measured on ResNet50).
COST = 6.0
SECONDS = 1.5
TRUSTED = 50.0

__all__ = ["Float64UnavailableError", "engine", "evaluate", "reference"]


@dataclass(frozen=True)
class Float64Runner:
    """A graph, cut, on our own float64 evaluation; satisfies `layers.Runner`."""

    loaded: Loaded
    extra: tuple[str, ...]
    deadline: float | None

    def run(self, feeds: Feeds, weights: Feeds | None = None, forced: Feeds | None = None) -> Feeds:
        """Raises: Float64UnavailableError."""
        return evaluate(
            self.loaded, feeds, weights=weights, forced=forced, extra=self.extra, deadline=self.deadline
        )


def engine(deadline: float | None = None) -> Engine:
    """Our float64 evaluation as an engine of `layers.Layers`."""
    return lambda loaded, extra, forced: Float64Runner(loaded, tuple(extra), deadline)


def reference(study: Study) -> Answers | None:
    """float64 answers on the first probes; None where not to be had. Notes the source's own error."""
    estimate = study.effort.seconds * COST
    if estimate > SECONDS:
        study.evidence.limits.append(f"float64 left out: it would take about {estimate:.0f} s")
        return None
    wanted = max(1, min(4, int(SECONDS / 3 / max(estimate, 1e-3))))
    answers: Answers = {}
    deadline = time.perf_counter() + 2 * SECONDS
    cheapest = sorted(study.probes, key=lambda probe: sum(a.size for a in probe.feeds.values()))
    for probe in cheapest[:wanted]:
        try:
            answers[probe.name] = evaluate(study.source, probe.feeds, deadline=deadline)
        except Float64UnavailableError as exc:
            if not answers:
                study.evidence.limits.append(f"float64 left out: {exc}")
            break
    drop_overflown(study, answers)
    if answers and not trusted(study, answers):
        return None
    return answers or None


def drop_overflown(study: Study, answers: Answers) -> None:
    """Leave out probes on which the source itself leaves the range of its dtype: float64 does not, and the
    two then differ for a reason that is nobody's fault (a softmax written out, on large inputs; a maximum
    of minus infinities, which runtimes begin at the lowest number)."""
    for probe in list(answers):
        for name, exact in answers[probe].items():
            own = study.unfolded[probe][name]
            if own.dtype.kind != "f" or own.shape != exact.shape:
                continue
            if (np.isfinite(exact) != np.isfinite(own)).any():
                study.evidence.limits.append(
                    f"float64 left out on probe {probe!r}: {name!r} of the source leaves its range there"
                )
                del answers[probe]
                break


def trusted(study: Study, answers: Answers) -> bool:
    """Note the source's own error; an evaluation further off than noise explains is not a reference."""
    for name, noise in study.noise.items():
        if noise.dtype.kind != "f":
            continue
        for probe, outputs in answers.items():
            error = distance(study.unfolded[probe][name], outputs[name])
            scale = noise.scales[probe]
            if outputs[name].shape != study.unfolded[probe][name].shape or error > TRUSTED * noise.of(probe):
                study.evidence.limits.append(
                    f"float64 left out: on {name!r} it is {error:.2g} from the source's float32 "
                    f"(scale {scale:.2g}), more than the measured noise {noise.of(probe):.2g} explains"
                )
                return False
    for name, noise in study.noise.items():
        for probe, outputs in answers.items():
            noise.float64_distance[probe] = distance(study.unfolded[probe][name], outputs[name])
    return True
