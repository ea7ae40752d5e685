"""How much to run: bounded by what one run of this model costs, so that proof stays cheap."""

from __future__ import annotations

from dataclasses import dataclass

BUDGET = 1.0  # seconds of inference that the probes of one reference and one candidate may take
FLOAT64_BUDGET = 6e9  # multiplications that float64 evaluation may take (about 0.3 s on two cores)


@dataclass(frozen=True)
class Effort:
    """probes: how many generated ones. noise_probes: on how many noise is measured, `noise_runs` each.

    batch: largest batch of a probe. sizes: how many further sizes of dynamic dimensions. framework: on how
    many probes the source framework runs.
    """

    probes: int
    noise_probes: int
    noise_runs: int
    batch: int
    sizes: int
    framework: int
    seconds: float

    def words(self) -> str:
        """For the report."""
        return (
            f"one run takes {self.seconds * 1e3:.3g} ms: {self.probes} probes, noise from "
            f"{self.noise_runs} run(s) on {self.noise_probes} of them, {self.sizes} further input size(s)"
        )


def plan(seconds: float) -> Effort:
    """Effort for a model of which one run at batch 1 takes `seconds`."""
    if seconds < 0.004:
        return Effort(10, 10, 3, 3, 2, 10, seconds)
    if seconds < 0.02:
        return Effort(8, 4, 2, 3, 1, 5, seconds)
    if seconds < 0.06:
        return Effort(5, 2, 2, 2, 1, 3, seconds)
    return Effort(3, 2, 1, 2, 1 if seconds < 0.3 else 0, 2, seconds)
