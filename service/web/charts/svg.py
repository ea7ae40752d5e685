"""Geometry of the smallest pictures, ten thousand on a page: numbers in, SVG path data out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from folding.report import ArrayStats

HISTOGRAM = (96, 24)


def bars(counts: Sequence[int]) -> str:
    """Path of a histogram in a box of 96 x 24; heights by square root, so that single values stay visible."""
    width, height = HISTOGRAM
    top = max(counts, default=0)
    if top <= 0:
        return ""
    if len(counts) == 1:  # all values are equal: one line, not a wall
        return f"M{_n(width / 2 - 1.5)} {height}v-{height}h3v{height}z"
    step = width / len(counts)
    wide = _n(step * 0.86)
    scale = height / math.sqrt(top)
    # A page may hold ten thousand of these: two numbers for each bar, and no more said than a pixel can show.
    return "".join(
        f"M{index * step:.4g} {height}v-{max(1.5, scale * math.sqrt(count)):.3g}h{wide}V{height}z"
        for index, count in enumerate(counts)
        if count > 0
    )


def zero_mark(stats: ArrayStats) -> float | None:
    """Where zero lies in the same box, or None when it is outside."""
    if stats.min is None or stats.max is None or not stats.min < 0 < stats.max:
        return None
    return round(-stats.min / (stats.max - stats.min) * HISTOGRAM[0], 2)


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
