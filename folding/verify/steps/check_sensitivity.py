"""Check whether the probes are evidence: an output must answer them differently."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from folding.verify.context import ProbeSet
from folding.verify.model import Loaded, live_values
from folding.verify.noise.measure import NoiseModel
from folding.verify.noise.ulp_noise import Noise, scale_of

CLEAR = 0.25  # of the larger answer: a difference that needs no measured noise beside it


@dataclass(frozen=True)
class Sensitivity:
    """reacting: probes that some output reacts to. constant: no output depends on any input, by the graph."""

    reacting: tuple[str, ...] = ()
    constant: bool = False


class Difference(IntEnum):
    """How two answers compare. UNCLEAR: the noise decides, and is not known."""

    NONE = 0
    UNCLEAR = 1
    CLEAR = 2


def probe_sensitivity(source: Loaded, probes: ProbeSet, model: NoiseModel) -> Sensitivity:
    """Return which probes are evidence: an output answers them differently than it answers another probe.

    The noise is measured only where it decides.
    """
    found = strongest(probes, model)
    if Difference.UNCLEAR in found.values():
        model.measure()
        found = strongest(probes, model)
    reacting = tuple(p.name for p in probes.probes if found[p.name] is Difference.CLEAR)
    return Sensitivity(reacting, constant_outputs(source))


def strongest(probes: ProbeSet, model: NoiseModel) -> dict[str, Difference]:
    """Return for each probe the clearest difference of any output from its answer to another probe."""
    found = dict.fromkeys((p.name for p in probes.probes), Difference.NONE)
    for name, noise in model.outputs.items():
        for probe, a, b in rows_within(probes, name):
            whole = answers_differ(noise, (probe,), a, b, model.measured)
            found.update({each: max(known, whole) for each, known in found.items()})
        for probe in found:
            for other in found:
                if found[probe] is Difference.CLEAR:
                    break
                if other != probe:
                    difference = responses_differ(probes, name, noise, probe, other, model.measured)
                    found[probe] = max(found[probe], difference)
    return found


def rows_within(probes: ProbeSet, name: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Pairs of batch rows of one answer, with the probe's name."""
    pairs = []
    for probe in probes.probes:
        value = probes.answers[probe.name][name]
        if value.ndim and value.shape[0] > 1 and not probe.constant:
            pairs.append((probe.name, value[0], value[1]))
    return pairs[:1]


def responses_differ(probes: ProbeSet, name: str, noise: Noise, a: str, b: str, known: bool) -> Difference:
    """Compare two probes' answers, by shape or by value."""
    one, two = probes.answers[a][name], probes.answers[b][name]
    if one.shape != two.shape:
        if input_shapes(probes, a) == input_shapes(probes, b):
            return Difference.CLEAR  # the shape follows from what the inputs hold
        size = min(len(one) if one.ndim else 1, len(two) if two.ndim else 1)
        if not one.ndim or one.shape[1:] != two.shape[1:] or size == 0:
            return Difference.NONE
        one, two = one[:size], two[:size]
    return answers_differ(noise, (a, b), one, two, known)


def input_shapes(probes: ProbeSet, name: str) -> dict[str, tuple[int, ...]]:
    """Shapes of a probe's inputs."""
    return {key: array.shape for key, array in probes.feeds(name).items()}


def answers_differ(
    noise: Noise, probes: tuple[str, ...], one: np.ndarray, two: np.ndarray, known: bool
) -> Difference:
    """Compare floats with the noise, everything else for equality. known: whether the noise was measured.

    The level is that of these very probes where it was measured: what all probes have in common is no measure
    of a graph that rounds, in which one step may be all of a small answer and nothing of a large one.
    """
    one, two = np.asarray(one), np.asarray(two)  # an element of a string array is a str
    if one.dtype.kind != "f":
        return Difference.CLEAR if (one != two).any() else Difference.NONE
    size = max(scale_of(one), scale_of(two))
    samples = [noise.samples.get(probe) for probe in probes]
    measured = max(max(s) for s in samples if s) if all(samples) else noise.pooled * size
    level = 8 * max(measured, noise.floor * size)
    with np.errstate(all="ignore"):
        gap = np.abs(one.astype(np.float64) - two.astype(np.float64))
    largest = float(np.max(gap, where=np.isfinite(gap), initial=0.0))
    if largest <= level:
        return Difference.NONE
    return Difference.CLEAR if known or largest >= CLEAR * size else Difference.UNCLEAR


def constant_outputs(loaded: Loaded) -> bool:
    """Whether no output depends on any input, by the graph alone."""
    return not live_values(loaded) & set(loaded.outputs)
