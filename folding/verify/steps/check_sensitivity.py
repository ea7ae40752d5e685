"""Check whether the probes are evidence: an output must answer them differently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from folding.verify.context import ProbeSet
from folding.verify.model import Loaded, live_values
from folding.verify.noise.ulp_noise import Noise, scale_of


@dataclass(frozen=True)
class Sensitivity:
    """reacting: probes that some output reacts to. constant: no output depends on any input, by the graph."""

    reacting: tuple[str, ...] = ()
    constant: bool = False


def probe_sensitivity(source: Loaded, probes: ProbeSet, noises: Mapping[str, Noise]) -> Sensitivity:
    """Return which probes are evidence: an output answers them differently than it answers another probe."""
    reacting: set[str] = set()
    for name, noise in noises.items():
        if any(answers_differ(noise, (probe,), a, b) for probe, a, b in rows_within(probes, name)):
            reacting.update(p.name for p in probes.probes)
        for probe in probes.probes:
            for other in probes.probes:
                if other is not probe and responses_differ(probes, name, noise, probe.name, other.name):
                    reacting.add(probe.name)
                    break
    return Sensitivity(tuple(p.name for p in probes.probes if p.name in reacting), constant_outputs(source))


def rows_within(probes: ProbeSet, name: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Pairs of batch rows of one answer, with the probe's name."""
    pairs = []
    for probe in probes.probes:
        value = probes.answers[probe.name][name]
        if value.ndim and value.shape[0] > 1 and not probe.constant:
            pairs.append((probe.name, value[0], value[1]))
    return pairs[:1]


def responses_differ(probes: ProbeSet, name: str, noise: Noise, a: str, b: str) -> bool:
    """Whether two probes' answers differ beyond noise, by shape or by value."""
    one, two = probes.answers[a][name], probes.answers[b][name]
    if one.shape != two.shape:
        if input_shapes(probes, a) == input_shapes(probes, b):
            return True  # the shape follows from what the inputs hold
        size = min(len(one) if one.ndim else 1, len(two) if two.ndim else 1)
        if not one.ndim or one.shape[1:] != two.shape[1:] or size == 0:
            return False
        one, two = one[:size], two[:size]
    return answers_differ(noise, (a, b), one, two)


def input_shapes(probes: ProbeSet, name: str) -> dict[str, tuple[int, ...]]:
    """Shapes of a probe's inputs."""
    return {key: array.shape for key, array in probes.feeds(name).items()}


def answers_differ(noise: Noise, probes: tuple[str, ...], one: np.ndarray, two: np.ndarray) -> bool:
    """Beyond the noise level for floats, at all for the rest.

    The level is that of these very probes where it was measured: what all probes have in common is no measure
    of a graph that rounds, in which one step may be all of a small answer and nothing of a large one.
    """
    one, two = np.asarray(one), np.asarray(two)  # an element of a string array is a str
    if one.dtype.kind != "f":
        return bool((one != two).any())
    size = max(scale_of(one), scale_of(two))
    samples = [noise.samples.get(probe) for probe in probes]
    measured = max(max(s) for s in samples if s) if all(samples) else noise.pooled * size
    level = 8 * max(measured, noise.floor * size)
    with np.errstate(all="ignore"):
        gap = np.abs(one.astype(np.float64) - two.astype(np.float64))
    return bool((gap[np.isfinite(gap)] > level).any())


def constant_outputs(loaded: Loaded) -> bool:
    """Whether no output depends on any input, by the graph alone."""
    return not live_values(loaded) & set(loaded.outputs)
