"""The noise of every output of the source, measured by equivalent executions, and the tolerances from it.

It is measured when something needs it: a comparison within the rounding that any execution makes passes with
or without, and most are.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from folding.ir.types import Feeds
from folding.verify.context import GraphPair, ProbeSet
from folding.verify.findings import Findings, reason
from folding.verify.model import FedSession, depth
from folding.verify.noise.monte_carlo import monte_carlo
from folding.verify.noise.rounding_perturbation import perturbed_weights, rounding_perturbed
from folding.verify.noise.tolerance import Tolerance, derive
from folding.verify.noise.ulp_noise import Noise, neighbours, scale_of
from folding.verify.probes import budget
from folding.verify.probes.generate import Probe

SPARED = budget.HEAVY  # bytes of perturbed weights beyond which making them again is better than holding them


class NoiseModel:
    """Noise per output, measured when a comparison would fail without it; more of it before one fails."""

    def __init__(self, pair: GraphPair, probes: ProbeSet) -> None:
        self.pair, self.probes = pair, probes
        self.outputs = {name: self._empty(name) for name in probes.answers[probes.first.name]}
        self._perturbed: list[Feeds] = []
        self._sharpened: set[str] = set()
        self._session: FedSession | None = None  # moves the result of every operator
        self.measured = False
        self._skipped: list[str] = []

    def _empty(self, name: str) -> Noise:
        """An output's dtype, depth and scale on every probe, without samples."""
        answers = self.probes.answers
        noise = Noise(answers[self.probes.first.name][name].dtype, depth(self.pair.source.proto.graph))
        noise.scales = {probe: scale_of(outputs[name]) for probe, outputs in answers.items()}
        return noise

    @property
    def findings(self) -> Findings:
        """What could not be measured."""
        return Findings(skipped=tuple(self._skipped))

    def measure(self) -> None:
        """Run the source on the first probes with weights, inputs and operators' results moved, once."""
        if self.measured:
            return
        self.measured = True
        effort, rng = self.probes.effort, self.pair.rng(0x6E6F697365)
        probes = self.probes.probes[: effort.noise_probes]
        skipped = self._skipped
        try:
            self._session = monte_carlo(self.pair.source, self.pair.rng(0x6D6F6E7465)).session()
        except Exception as exc:  # noqa: BLE001 - then only weights and inputs are moved
            skipped.append(f"noise of every operator: {reason(exc)}")
        for probe in probes:
            for weights in self.perturbed():
                try:
                    self._run(self._session or self.pair.session, probe, weights, rng)
                except Exception as exc:  # noqa: BLE001 - moved inputs may be ones that the model refuses
                    skipped.append(f"noise on {probe.name}: {reason(exc)}")
        for moved in rounding_perturbed(self.pair.source, rng):
            try:
                session = moved.session()
                for probe in probes:
                    self._run(session, probe, self.pair.source.weights, rng)
            except Exception as exc:  # noqa: BLE001 - then the limits are the tighter ones of the graph as it is
                skipped.append(f"noise where the graph rounds: {reason(exc)}")
        self.release(SPARED)

    def _run(self, session: FedSession, probe: Probe, weights: Feeds, rng: np.random.Generator) -> None:
        """Add one equivalent execution of the source to the noise of every output."""
        feeds = probe.feeds if probe.exact else {**neighbours(probe.feeds, rng), **probe.arguments}
        answer = session.run(feeds, weights)
        for name, noise in self.outputs.items():
            noise.add(probe.name, self.probes.answers[probe.name][name], answer[name])

    def perturbed(self) -> list[Feeds]:
        """Return the source's weights, each one ulp off: one set per noise run, made once."""
        while len(self._perturbed) < self.probes.effort.noise_runs:
            rng = self.pair.rng(0x77656967 + len(self._perturbed))
            self._perturbed.append(perturbed_weights(self.pair.source, rng))
        return self._perturbed

    def release(self, beyond: int = 0) -> None:
        """Let go of those copies of the weights, where they are larger; asking again makes the same ones."""
        if sum(array.nbytes for weights in self._perturbed for array in weights.values()) > beyond:
            self._perturbed.clear()

    def sharpen(self, probe: str) -> bool:
        """Measure the noise, or that of a probe with more runs. Return False where both were done already."""
        if not self.measured:
            self.measure()
            return True
        if probe in self._sharpened:
            return False
        self._sharpened.add(probe)
        found = next(p for p in self.probes.probes if p.name == probe)
        rng = self.pair.rng(0x73686172, len(self._sharpened))
        for _ in range(self.probes.effort.sharper):
            try:
                self._run(
                    self._session or self.pair.session, found, perturbed_weights(self.pair.source, rng), rng
                )
            except Exception:  # noqa: BLE001 - as in `measure`, where it was said
                return False
        return True

    def note_float64(self, distances: dict[str, dict[str, float]]) -> None:
        """Let the source's own error against float64 (probe -> output -> distance) count as noise."""
        for probe, found in distances.items():
            for name, size in found.items():
                self.outputs[name].float64_distance[probe] = size

    def tolerance(self, output: str, probe: str) -> Tolerance:
        """Return the limits of one output on one probe."""
        return derive(self.outputs[output], probe, self.pair.options)

    def names(self) -> Iterable[str]:
        """Names of the outputs, in order."""
        return self.outputs
