"""Histograms with axes: one array, or two over the same axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from folding.report import ArrayStats, figures
from service.web.charts.chart import Chart, bar, line, text, ticks

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 220, 52, 14, 30, 44


@dataclass(frozen=True)
class Counts:
    """Counts in equal bins over [low, high]. kind: class of the bars. label: in the legend."""

    label: str
    kind: str
    counts: Sequence[int]


def of_stats(name: str, title: str, stats: ArrayStats) -> Chart | None:
    """Return the histogram of one array; None where nothing of it is finite."""
    if stats.min is None or stats.max is None or not any(stats.histogram):
        return None
    words = f"{figures.count(stats.size)} values from {stats.min:.3g} to {stats.max:.3g}"
    if stats.mean is not None:
        words += f", mean {stats.mean:.3g}"
    if stats.non_finite:
        words += f", {figures.count(stats.non_finite)} not finite and not drawn"
    return draw(name, title, words, stats.min, stats.max, [Counts("", "after", stats.histogram)])


def draw(
    name: str, title: str, words: str, low: float, high: float, series: Sequence[Counts], unit: str = "value"
) -> Chart:
    """Return bars over a numeric axis, counts upwards; several series over each other."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    top = max((count for one in series for count in one.counts), default=1) or 1
    body = []
    for value in ticks(0.0, float(top), 4):
        if value == int(value):
            y = bottom - (bottom - TOP) * value / top
            body += [
                line("grid", LEFT, y, right, y),
                text(LEFT - 6, y + 4, f"{figures.count(int(value))}", "end"),
            ]
    for value in ticks(low, high, 5) if high > low else [low]:
        x = _across(value, low, high)
        body += [line("axis", x, bottom, x, bottom + 4), text(x, bottom + 16, f"{value:.4g}")]
    for one in series:
        body += _bars(one, low, high, top)
    if low < 0 < high:
        body.append(line("zero", _across(0.0, low, high), TOP, _across(0.0, low, high), bottom))
    body += [line("axis", LEFT, bottom, right, bottom), line("axis", LEFT, TOP, LEFT, bottom)]
    body += [text(LEFT, 18, "channels", "end"), text((LEFT + right) / 2, HEIGHT - 8, unit)]
    named = [one for one in series if one.label]
    for index, one in enumerate(named):
        x = right - 110 * (len(named) - index)
        body += [bar(one.kind, x, 9, 11, 11), text(x + 16, 18, one.label, "start", "value")]
    return Chart(name, title, words, WIDTH, HEIGHT, Markup("".join(body)))


def _bars(one: Counts, low: float, high: float, top: int) -> list[str]:
    room, bottom = WIDTH - RIGHT - LEFT, HEIGHT - BOTTOM
    if high <= low:  # all values are equal: one bar in the middle
        count = sum(one.counts)
        height = (bottom - TOP) * min(1.0, count / top)
        return [
            bar(
                one.kind,
                LEFT + room / 2 - 6,
                bottom - height,
                12,
                height,
                f"{low:.4g}: {figures.count(count)}",
            )
        ]
    step = room / len(one.counts)
    wide = (high - low) / len(one.counts)
    return [
        bar(
            one.kind, LEFT + index * step + step * 0.06, bottom - (bottom - TOP) * count / top, step * 0.88,
            (bottom - TOP) * count / top,
            f"{low + index * wide:.4g} to {low + (index + 1) * wide:.4g}: {figures.count(count)}",
        )
        for index, count in enumerate(one.counts)
        if count
    ]  # fmt: skip


def _across(value: float, low: float, high: float) -> float:
    share = 0.5 if high <= low else (value - low) / (high - low)
    return LEFT + (WIDTH - RIGHT - LEFT) * share
