"""One candidate output against one reference output, under one tolerance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from folding.report import OutputComparison
from folding.verify.noise.tolerance import Tolerance
from folding.verify.noise.ulp_noise import scale_of


@dataclass(frozen=True)
class Comparison:
    """Result for one output on one probe. `excess` is error / limit: above 1 is a failure."""

    name: str
    probe: str
    max_abs: float
    max_rel: float
    worst_index: list[int]
    excess: float
    tolerance: Tolerance
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Within the tolerance, and of the same shape, dtype and finiteness."""
        return self.excess <= 1.0


def compare(
    name: str, probe: str, reference: np.ndarray, candidate: np.ndarray, tolerance: Tolerance
) -> Comparison:
    """Elementwise. Shapes and dtypes must be equal; NaN and infinities must stand in the same places."""
    if reference.shape != candidate.shape:
        detail = f"shape {candidate.shape} instead of {reference.shape}"
        return Comparison(name, probe, float("inf"), float("inf"), [], float("inf"), tolerance, detail)
    if reference.dtype.kind not in "f" or candidate.dtype.kind not in "f":
        return compare_discrete(name, probe, reference, candidate, tolerance)
    if reference.size == 0:
        return Comparison(name, probe, 0.0, 0.0, [], 0.0, tolerance, "empty")
    wide, other = reference.astype(np.float64), candidate.astype(np.float64)
    with np.errstate(all="ignore"):
        gap = np.abs(other - wide)
        same = (wide == other) | (np.isnan(wide) & np.isnan(other))
        gap = np.where(same, 0.0, gap)
        gap = np.where(np.isnan(gap), np.inf, gap)
        limit = tolerance.limit(wide)
        limit = np.where(np.isfinite(limit), limit, 0.0)
        excess = np.where(gap == 0, 0.0, gap / np.maximum(limit, np.finfo(np.float64).tiny))
    worst = int(np.argmax(excess)) if excess.max() > 0 else int(np.argmax(gap))
    index = [int(i) for i in np.unravel_index(worst, gap.shape)]
    scale = scale_of(wide)
    max_abs = float(gap.max())
    max_rel = max_abs / scale if scale else (0.0 if max_abs == 0 else float("inf"))
    detail = "" if np.isfinite(max_abs) else "finite on one side only"
    return Comparison(name, probe, max_abs, max_rel, index, float(excess.max()), tolerance, detail)


def compare_discrete(
    name: str, probe: str, reference: np.ndarray, candidate: np.ndarray, tolerance: Tolerance
) -> Comparison:
    """Integers, booleans, strings: equal, save the elements that the tolerance excuses."""
    wrong = np.atleast_1d(reference != candidate)
    if tolerance.excused is not None and tolerance.excused.shape == reference.shape:
        wrong &= ~np.atleast_1d(tolerance.excused)
    count = int(wrong.sum())
    index = [int(i) for i in np.argwhere(wrong)[0]] if count else []
    share = count / max(1, wrong.size)
    detail = f"{count} of {wrong.size} elements differ" if count else ""
    return Comparison(
        name, probe, float(count > 0), share, index, float("inf") if count else 0.0, tolerance, detail
    )


def worst(comparisons: list[Comparison]) -> Comparison:
    """The comparison that is furthest over, or least far under, its limit."""
    return max(comparisons, key=lambda c: (c.excess, c.max_abs))


def summarize(comparisons: list[Comparison]) -> OutputComparison:
    """All probes of one output as one line of the report; the tolerance is the worst probe's."""
    chosen = worst(comparisons)
    why = chosen.tolerance.report()
    if chosen.detail:
        why.why = f"{chosen.detail}; {why.why}"
    return OutputComparison(
        name=chosen.name,
        max_abs=chosen.max_abs,
        max_rel=chosen.max_rel,
        worst_index=chosen.worst_index,
        worst_probe=chosen.probe,
        tolerance=why,
        passed=all(c.passed for c in comparisons),
    )
