"""Inline SVG: histograms, errors by layer, two bars side by side. Colours come from the page's CSS."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from folding.render import words
from folding.report import ArrayStats, DriftRow

WIDTH, HEIGHT = 88, 26
CHART_WIDTH, CHART_HEIGHT, LEFT, BOTTOM = 900, 240, 56, 24


def histogram(stats: ArrayStats | None, title: str) -> Markup:
    """A small histogram with its range below; square-root heights keep single values visible."""
    if stats is None:
        return Markup('<span class="none">–</span>')
    told = f"{title}: {words.number(stats.min)} to {words.number(stats.max)}, mean {words.number(stats.mean)}"
    if stats.non_finite:
        told += f", {stats.non_finite} not finite"
    top = max(stats.histogram, default=0)
    step = WIDTH / max(1, len(stats.histogram))
    bars = Markup("").join(
        bar(i * step, step * 0.88, HEIGHT * math.sqrt(count / top))
        for i, count in enumerate(stats.histogram)
        if count
    )
    caption = f"{words.number(stats.min)} … {words.number(stats.max)}"
    return Markup(
        '<figure class="mini"><svg viewBox="0 0 {w} {h}" role="img" aria-label="{told}"><title>{told}</title>'
        "{bars}{zero}</svg><figcaption>{caption}</figcaption></figure>"
    ).format(w=WIDTH, h=HEIGHT, told=told, bars=bars, zero=zero_line(stats), caption=caption)


def bar(x: float, width: float, height: float) -> Markup:
    """One bar of a histogram."""
    tall = max(1.5, height)
    return Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
        x, HEIGHT - tall, max(0.8, width), tall
    )


def zero_line(stats: ArrayStats) -> Markup:
    """A line at zero where the range holds it."""
    if stats.min is None or stats.max is None or not stats.min < 0 < stats.max:
        return Markup("")
    x = -stats.min / (stats.max - stats.min) * WIDTH
    return Markup('<line class="zero" x1="{0:.1f}" x2="{0:.1f}" y1="0" y2="{1}"/>').format(x, HEIGHT)


def drift(rows: Sequence[DriftRow], first: str | None) -> Markup:
    """Relative error by layer, logarithmic; the first divergence is ringed and labelled."""
    shown = [row for row in rows if math.isfinite(row.max_rel)]
    if not shown:
        return Markup("")
    positive = [row.max_rel for row in shown if row.max_rel > 0] or [1e-8]
    low = max(-16, math.floor(math.log10(min(positive))))
    high = max(low + 1, math.ceil(math.log10(max(positive))))
    points = Markup("").join(point(i, len(shown), row, (low, high), first) for i, row in enumerate(shown))
    told = f"relative error of {len(shown)} values, from {min(positive):.1e} to {max(positive):.1e}"
    return Markup(
        '<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{told}"><title>{told}</title>'
        '{grid}{points}<text class="axis" x="{mid}" y="{base}">layers, in graph order</text></svg>'
    ).format(
        w=CHART_WIDTH, h=CHART_HEIGHT, told=told, grid=grid(low, high), points=points, mid=CHART_WIDTH // 2,
        base=CHART_HEIGHT - 4,
    )  # fmt: skip


def level(error: float, low: int, high: int) -> float:
    """y of an error."""
    place = low if error <= 0 else min(max(math.log10(error), low), high)
    return CHART_HEIGHT - BOTTOM - (CHART_HEIGHT - BOTTOM - 12) * (place - low) / (high - low)


def grid(low: int, high: int) -> Markup:
    """Horizontal lines at powers of ten."""
    lines = []
    for power in range(low, high + 1, max(1, (high - low) // 6)):
        y = level(10.0**power, low, high)
        lines.append(
            Markup(
                '<line class="grid" x1="{l}" x2="{w}" y1="{y:.1f}" y2="{y:.1f}"/>'
                '<text class="tick" x="{t}" y="{v:.1f}">1e{p}</text>'
            ).format(l=LEFT, w=CHART_WIDTH - 8, y=y, t=LEFT - 6, v=y + 4, p=power)
        )
    return Markup("").join(lines)


def point(index: int, count: int, row: DriftRow, span: tuple[int, int], first: str | None) -> Markup:
    """One value; a tooltip tells its name and numbers."""
    x = LEFT + 8 + (CHART_WIDTH - LEFT - 24) * index / max(1, count - 1)
    y = level(row.max_rel, *span)
    label = f"{row.value}: {words.number(row.max_rel)} of scale {words.number(row.scale)} ({row.provider})"
    wrong = row.value == first
    dot = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>').format(
        "dot wrong" if wrong else "dot", x, y, 6 if wrong else 3, label
    )
    if not wrong:
        return dot
    anchor = "end" if x > CHART_WIDTH / 2 else "start"
    offset = -10 if anchor == "end" else 10
    name = row.value if len(row.value) <= 48 else row.value[:22] + "…" + row.value[-22:]
    return dot + Markup('<text class="callout" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        x + offset, max(14, y - 8), anchor, f"first divergence: {name}"
    )


def pair(before: float, after: float, words_: tuple[str, str]) -> Markup:
    """Two bars, before above after, as wide as they are large."""
    top = max(before, after) or 1.0
    rows = Markup("").join(
        Markup(
            '<div class="pair"><span>{name}</span><svg class="track" viewBox="0 0 100 4" '
            'preserveAspectRatio="none" aria-hidden="true">'
            '<rect class="fill {kind}" width="{width:.1f}" height="4"/></svg>'
            '<span class="figure">{text}</span></div>'
        ).format(name=name, kind=name, width=100 * value / top, text=text)
        for name, value, text in (("before", before, words_[0]), ("after", after, words_[1]))
    )
    return Markup('<div class="pairs">{}</div>').format(rows)
