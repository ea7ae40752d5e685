"""One pair of graphs under examination: what is known so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from folding.options import FoldOptions
from folding.progress import Progress
from folding.report import Hazard, VerificationRow
from folding.sources.base import Feeds
from folding.verify.compare.rows import Answers
from folding.verify.compare.segments import LayerCheck
from folding.verify.model import FedSession, Loaded, depth
from folding.verify.noise.rounding_perturbation import perturbed_weights, rounding_perturbed
from folding.verify.noise.tolerance import Tolerance, derive
from folding.verify.noise.ulp_noise import Noise, neighbours, scale_of
from folding.verify.probes import budget
from folding.verify.probes.generate import Probe
from folding.verify.probes.input_ranges import InputSpec
from folding.verify.verdict import Evidence

SPARED = budget.HEAVY  # bytes of perturbed weights beyond which making them again is better than holding them


@dataclass
class Study:
    """Everything that is known while one pair of graphs is examined."""

    source: Loaded
    artifact: Loaded
    options: FoldOptions
    progress: Progress
    sites: Sequence[str] = ()
    specs: list[InputSpec] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    effort: budget.Effort = field(default_factory=lambda: budget.plan(0.0))
    unfolded: Answers = field(default_factory=dict)
    noise: dict[str, Noise] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    rows: list[VerificationRow] = field(default_factory=list)
    hazards: list[Hazard] = field(default_factory=list)
    layers: LayerCheck | None = None
    latency: dict[str, Any] | None = None
    evidence: Evidence = field(default_factory=Evidence)
    _session: FedSession | None = None
    _perturbed: list[Feeds] = field(default_factory=list)
    _sharpened: set[str] = field(default_factory=set)

    def session(self) -> FedSession:
        """The source with its weights fed, opened once: a thousand nodes take the runtime 0.1 s.

        Raises: the runtime's own exceptions where it does not load.
        """
        if self._session is None:
            self._session = self.source.session()
        return self._session

    def perturbed(self) -> list[Feeds]:
        """The source's weights, each one ulp off: one set per noise run, made once."""
        while len(self._perturbed) < self.effort.noise_runs:
            self._perturbed.append(
                perturbed_weights(self.source, self.rng(0x77656967 + len(self._perturbed)))
            )
        return self._perturbed

    def forget_perturbed(self, beyond: int = 0) -> None:
        """Let go of those copies of the weights, where they are larger; asking again makes the same ones."""
        if sum(array.nbytes for weights in self._perturbed for array in weights.values()) > beyond:
            self._perturbed.clear()

    def rng(self, *salt: int) -> np.random.Generator:
        """A generator of its own for each purpose."""
        return np.random.default_rng([self.options.seed, *salt])

    def sharpen(self, probe: str) -> bool:
        """Before a probe fails: measure its noise with more runs, once. False: that was done already."""
        if probe in self._sharpened:
            return False
        self._sharpened.add(probe)
        feeds = next(p for p in self.probes if p.name == probe)
        session, rng = self.session(), self.rng(0x73686172, len(self._sharpened))
        for _ in range(self.effort.sharper):
            perturb(self, session, feeds, perturbed_weights(self.source, rng), rng)
        return True

    def tolerance(self, output: str, probe: str) -> Tolerance:
        """Limits of one output on one probe."""
        return derive(self.noise[output], probe, self.options)


def measure_noise(study: Study) -> None:
    """Equivalent executions of the source on the first probes."""

    layers = depth(study.source.proto.graph)
    first = study.unfolded[study.probes[0].name]
    for name in study.source.outputs:
        study.noise[name] = Noise(first[name].dtype, layers)
        for probe in study.probes:
            study.noise[name].scales[probe.name] = scale_of(study.unfolded[probe.name][name])
    session = study.session()
    rng = study.rng(0x6E6F697365)
    for probe in study.probes[: study.effort.noise_probes]:
        for weights in study.perturbed():
            perturb(study, session, probe, weights, rng)
    for moved in rounding_perturbed(study.source, rng):
        try:
            perturbed = moved.session()
            for probe in study.probes[: study.effort.noise_probes]:
                perturb(study, perturbed, probe, study.source.weights, rng)
        except Exception as exc:  # noqa: BLE001 - then the limits are the tighter ones of the graph as it is
            study.evidence.skipped.append(f"noise where the graph rounds: {str(exc).strip()[:200]}")


def perturb(
    study: Study, session: FedSession, probe: Probe, weights: Feeds, rng: np.random.Generator
) -> None:
    """One equivalent execution of the source, added to its noise."""
    feeds = probe.feeds if probe.exact else neighbours(probe.feeds, rng)
    answer = session.run(feeds, weights)
    for name, noise in study.noise.items():
        noise.add(probe.name, study.unfolded[probe.name][name], answer[name])
