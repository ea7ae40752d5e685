"""The tolerance of an output, derived from the model's own noise, and its derivation in words.

|candidate - reference| <= atol + rtol * |reference|, with
    atol = GUARD * noise(probe, output)        noise as in `noise.Noise.of`
    rtol = 4 u                                 u the unit roundoff of the output's dtype
A correct artifact is one more equivalent execution: its distance is a draw from the distribution that the
noise runs sample. Measured noise is a maximum over few runs, so it may fall short of the next maximum;
GUARD covers that, and a fault of 1e-3 in one channel is still orders of magnitude above it layer by layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from folding.options import FoldOptions
from folding.report import ToleranceReport
from folding.verify.noise.ulp_noise import Noise, unit_roundoff

GUARD = 8.0


@dataclass(frozen=True)
class Tolerance:
    """Limits for one output on one probe; `excused` marks discrete elements that noise alone flips."""

    rtol: float
    atol: float
    why: str
    excused: np.ndarray | None = None

    def limit(self, reference: np.ndarray) -> np.ndarray:
        """Elementwise limit, float64."""
        with np.errstate(all="ignore"):
            return self.atol + self.rtol * np.abs(reference.astype(np.float64))

    def report(self) -> ToleranceReport:
        """The report's form."""
        return ToleranceReport(rtol=self.rtol, atol=self.atol, why=self.why)


def derive(noise: Noise, probe: str, options: FoldOptions) -> Tolerance:
    """Tolerance of one output on one probe; the user's own numbers replace the derived ones."""
    if noise.dtype.kind not in "f":
        return discrete(noise, probe)
    level = noise.of(probe)
    rtol, atol = 4 * unit_roundoff(noise.dtype), GUARD * level
    rounding = f"u*sqrt(1 + {noise.depth} layers) = {noise.floor:.1e}"
    why = (
        f"{GUARD:g} x {level:.2g}: what any execution rounds, {rounding} of the scale; the differences are "
        "below that, so the noise of the source was not measured"
        if not noise.samples
        else f"{GUARD:g} x {level:.2g}: the source model moves by that much on this probe when every weight, "
        f"input and result of an operator moves by one unit in the last place "
        f"({len(noise.samples.get(probe, []))} runs on it, "
        f"{noise.pooled:.1e} of scale over all probes, "
        f"floor {rounding})"
    )
    if probe in noise.float64_distance:
        why += f"; the source's own error against float64 is {noise.float64_distance[probe]:.2g}"
    if options.rtol is not None or options.atol is not None:
        why = f"given by the user (derived: rtol {rtol:.1e}, atol {atol:.1e})"
        rtol = options.rtol if options.rtol is not None else rtol
        atol = options.atol if options.atol is not None else atol
    return Tolerance(rtol, atol, why)


def discrete(noise: Noise, probe: str) -> Tolerance:
    """Integers, booleans and strings must be equal, save where the source itself wavers under noise."""
    excused = noise.unstable.get(probe)
    count = int(excused.sum()) if excused is not None else 0
    why = "equal elements" + (
        f", except {count} that change in the source under one-ulp noise" if count else ""
    )
    return Tolerance(0.0, 0.0, why, excused)
