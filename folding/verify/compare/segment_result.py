"""One segment's outcome: what differs, what rounding can do, and whether that proves anything."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

# Share of elements that may be undecided (on the other side of a rounding step, say) in a bounded segment.
UNDECIDED = 1e-3
# Of the segment's scale: float64 roundings of either side that no operator's bound accounts for.
SLACK = 1e-12


@dataclass(frozen=True)
class Segment:
    """passed: False where an element differs by more than its bound, None where nothing was judged.

    status: `bounded` where the bound decides; `measured` where there is none, or it is too loose. difference
    and bound: at the element with the largest ratio of the two. largest: the largest difference anywhere.
    undecided: elements whose bound is too loose, or that have none.
    """

    name: str
    status: Literal["bounded", "measured"]
    passed: bool | None
    difference: float = 0.0
    bound: float = 0.0
    ratio: float = 0.0
    largest: float = 0.0
    scale: float = 0.0
    worst_index: tuple[int, ...] = ()
    elements: int = 0
    undecided: int = 0
    why: str = ""


def unjudged_segment(name: str, why: str) -> Segment:
    """Return a segment that has no bound at all."""
    return Segment(name, "measured", None, why=why)


def judge_segment(
    name: str, reference: np.ndarray, candidate: np.ndarray, error: np.ndarray, tight: float
) -> Segment:
    """Compare elementwise: above the bound is a fault, whatever the rest looks like."""
    if reference.shape != candidate.shape:
        why = f"shape {candidate.shape} instead of {reference.shape}"
        return Segment(name, "bounded", False, np.inf, 0.0, np.inf, np.inf, why=why)
    if reference.size == 0:
        return Segment(name, "bounded", True, why="empty")
    if reference.dtype.kind not in "fiub" or candidate.dtype.kind not in "fiub":
        if bool(np.all(reference == candidate)):
            return Segment(name, "bounded", True, elements=reference.size)
        return unjudged_segment(name, "no numbers")
    with np.errstate(all="ignore"):
        one, two = reference.astype(np.float64, copy=False), candidate.astype(np.float64, copy=False)
        gap = np.abs(one - two)
        same = (one == two) | (np.isnan(one) & np.isnan(two))
        gap = np.where(same, 0.0, np.where(np.isnan(gap), np.inf, gap))
        finite = np.isfinite(one)
        scale = float(np.max(np.abs(one), where=finite, initial=0.0))
        slack = SLACK * scale if reference.dtype.kind == "f" else 0.0
        limit = error + slack
        ratio = np.where(gap == 0, 0.0, np.where(np.isinf(limit), 0.0, gap / np.maximum(limit, 1e-300)))
    worst = int(np.argmax(ratio))
    # A whole number that may be off by one is undecided, however large the others are.
    loose = limit > tight * scale if reference.dtype.kind == "f" else error > 0
    undecided = int(np.count_nonzero(loose))
    decided = undecided <= UNDECIDED * reference.size
    at = np.unravel_index(worst, gap.shape)
    found = Segment(
        name,
        "bounded" if decided else "measured",
        None if not decided else True,
        float(gap[at]),
        float(limit[at]),
        float(ratio[at]),
        float(np.max(gap)),
        scale,
        tuple(int(i) for i in at),
        int(reference.size),
        undecided,
        ""
        if decided
        else f"the bound is above {tight:g} of the scale in {undecided} of {reference.size} elements",
    )
    return replace(found, passed=False, status="bounded") if found.ratio > 1 else found
