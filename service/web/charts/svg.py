"""Geometry of the pictures: numbers in, SVG path data and coordinates out. No markup, no colours.

All coordinates are in the viewBox that the function's docstring names. Values that are not finite are left
out; an empty list gives an empty picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from folding.report import ArrayStats, DriftRow

HISTOGRAM = (96, 24)
POINTS = 400  # more of them are a smear, and a slow one
CHART = (960, 260)
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 12, 28


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


@dataclass(frozen=True)
class Point:
    """One value's error: where it stands, and what it says."""

    x: float
    y: float
    label: str
    error: float
    first: bool


@dataclass(frozen=True)
class Series:
    """The points of one provider, and the line through them."""

    provider: str
    points: list[Point]
    path: str


@dataclass(frozen=True)
class ErrorChart:
    """Relative error by layer, logarithmic, in a box of 960 x 260."""

    series: list[Series]
    ticks: list[tuple[float, str]]
    divergence: float | None
    left: int = _LEFT
    right: int = CHART[0] - _RIGHT
    bottom: int = CHART[1] - _BOTTOM


def error_chart(rows: Sequence[DriftRow], first_divergence: str | None) -> ErrorChart | None:
    """The chart of the `drift` rows; zero errors stand on the floor. None when there is nothing to draw."""
    rows = thinned(rows, first_divergence)
    errors = [row.max_rel for row in rows if math.isfinite(row.max_rel)]
    if not errors:
        return None
    positive = [error for error in errors if error > 0]
    low = math.floor(math.log10(min(positive))) if positive else -8
    high = math.ceil(math.log10(max(positive))) if positive else -7
    low, high = max(low, high - 16), max(high, low + 1)
    order = list(dict.fromkeys(row.value for row in rows))
    place = {value: _x(index, len(order)) for index, value in enumerate(order)}
    series = [
        _series(provider, [r for r in rows if r.provider == provider], place, (low, high), first_divergence)
        for provider in dict.fromkeys(row.provider for row in rows)
    ]
    step = max(1, (high - low) // 6)
    ticks = [(_height(power, low, high), f"1e{power}") for power in range(low, high + 1, step)]
    return ErrorChart(series, ticks, place.get(first_divergence or ""))


def thinned(rows: Sequence[DriftRow], keep: str | None) -> list[DriftRow]:
    """At most `POINTS` values, the worst of each run of neighbours, and `keep` in any case."""
    order = list(dict.fromkeys(row.value for row in rows))
    run = -(-len(order) // POINTS)
    if run <= 1:
        return list(rows)
    worst: dict[str, float] = {}
    for row in rows:
        worst[row.value] = max(worst.get(row.value, 0.0), row.max_rel)
    runs = (order[start : start + run] for start in range(0, len(order), run))
    chosen = {max(names, key=lambda name: worst[name]) for names in runs} | {keep}
    return [row for row in rows if row.value in chosen]


def _series(
    provider: str, rows: list[DriftRow], place: dict[str, float], span: tuple[int, int], first: str | None
) -> Series:
    points = [
        Point(place[row.value], _y(row.max_rel, *span), row.value, row.max_rel, row.value == first)
        for row in rows
        if math.isfinite(row.max_rel)
    ]
    path = "".join(f"{'L' if index else 'M'}{_n(p.x)} {_n(p.y)}" for index, p in enumerate(points))
    return Series(provider, points, path)


def _x(index: int, count: int) -> float:
    return round(_LEFT + 8 + (CHART[0] - _LEFT - _RIGHT - 16) * (index / max(1, count - 1)), 1)


def _y(error: float, low: int, high: int) -> float:
    return _height(low if error <= 0 else min(max(math.log10(error), low), high), low, high)


def _height(level: float, low: int, high: int) -> float:
    return round(CHART[1] - _BOTTOM - (CHART[1] - _BOTTOM - _TOP) * (level - low) / (high - low), 1)


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
