"""Inline SVG: histograms, errors by layer, two bars side by side. Colours come from the page's CSS."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from folding.report import ArrayStats, DriftRow
from folding.report.render import words

WIDTH, HEIGHT = 88, 26
CHART_WIDTH, CHART_HEIGHT, LEFT, BOTTOM = 900, 240, 56, 24


def histogram(stats: ArrayStats | None, title: str) -> Markup:
    """A small histogram with its range below; square-root heights keep single values visible."""
    if stats is None:
        return Markup('<span class="none">–</span>')
    low, high = words.number(stats.min), words.number(stats.max)
    told = f"{title}: {low} to {high}, mean {words.number(stats.mean)}"
    if stats.non_finite:
        told += f", {stats.non_finite} not finite"
    told = escape(told)
    # All but `told` is numbers. A report may hold ten thousand of these, so that Markup.format is too slow.
    return Markup(
        f'<figure class="mini"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{told}">'
        f'<title>{told}</title><path d="{bars(stats.histogram)}"/>{zero_line(stats)}</svg>'
        f"<figcaption>{low} … {high}</figcaption></figure>"
    )


def bars(counts: Sequence[int]) -> str:
    """Path data of the bars, empty bins left out."""
    top = max(counts, default=0)
    if top <= 0:
        return ""
    step = WIDTH / len(counts)
    wide = f"{max(0.8, step * 0.88):.1f}"
    scale = HEIGHT / math.sqrt(top)
    return "".join(
        f"M{i * step:.4g} {HEIGHT}v-{max(1.5, scale * math.sqrt(count)):.3g}h{wide}V{HEIGHT}z"
        for i, count in enumerate(counts)
        if count > 0
    )


def zero_line(stats: ArrayStats) -> str:
    """A line at zero where the range holds it."""
    if stats.min is None or stats.max is None or not stats.min < 0 < stats.max:
        return ""
    x = -stats.min / (stats.max - stats.min) * WIDTH
    return f'<line class="zero" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{HEIGHT}"/>'


def drift(rows: Sequence[DriftRow], first: str | None) -> Markup:
    """Relative error by layer, logarithmic, one mark for each provider; the first divergence is ringed."""
    shown = [row for row in rows if math.isfinite(row.max_rel)]
    if not shown:
        return Markup("")
    positive = [row.max_rel for row in shown if row.max_rel > 0] or [1e-8]
    low = max(-16, math.floor(math.log10(min(positive))))
    high = max(low + 1, math.ceil(math.log10(max(positive))))
    values = list(dict.fromkeys(row.value for row in shown))
    step = (CHART_WIDTH - LEFT - 24) / max(1, len(values) - 1)
    place = {value: LEFT + 8 + i * step for i, value in enumerate(values)}
    providers = list(dict.fromkeys(row.provider for row in shown))
    points = Markup("").join(
        point(place[row.value], level(row.max_rel, low, high), row, providers.index(row.provider), first)
        for row in shown
    )
    ringed = next((row for row in shown if row.value == first), None)
    if ringed is not None:
        points += callout(place[ringed.value], level(ringed.max_rel, low, high), ringed.value)
    told = (
        f"relative error of {len(values)} values on {', '.join(providers)}, "
        f"from {min(positive):.1e} to {max(positive):.1e}"
    )
    return Markup(
        '<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{told}"><title>{told}</title>'
        '{grid}{points}{legend}<text class="axis" x="{mid}" y="{base}">layers, in graph order</text></svg>'
    ).format(
        w=CHART_WIDTH, h=CHART_HEIGHT, told=told, grid=grid(low, high), points=points, mid=CHART_WIDTH // 2,
        base=CHART_HEIGHT - 4, legend=legend(providers),
    )  # fmt: skip


def mark(x: float, y: float, series: int, large: bool) -> str:
    """Path data of one point: a disc, a square, a triangle or a diamond, so that colour is not all."""
    r = 6.0 if large else 3.2
    at = f"M{x:.1f} {y:.1f}"
    return (
        f"{at}m-{r} 0a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 -{2 * r} 0z",
        f"{at}m-{r} -{r}h{2 * r}v{2 * r}h-{2 * r}z",
        f"{at}m0 -{r}l{r} {2 * r}h-{2 * r}z",
        f"{at}m0 -{r}l{r} {r}l-{r} {r}l-{r} -{r}z",
    )[series % 4]


def legend(providers: Sequence[str]) -> Markup:
    """Which mark is which, where there is more than one."""
    if len(providers) < 2:
        return Markup("")
    entries = []
    for i, provider in enumerate(providers):
        x = CHART_WIDTH - 110 * (len(providers) - i)
        entries.append(
            Markup('<path class="dot series{}" d="{}"/><text class="key" x="{}" y="12">{}</text>').format(
                i % 4, mark(x, 8, i, False), x + 10, provider
            )
        )
    return Markup("").join(entries)


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


def point(x: float, y: float, row: DriftRow, series: int, first: str | None) -> Markup:
    """One value; a tooltip tells its name and numbers."""
    label = f"{row.value}: {words.number(row.max_rel)} of scale {words.number(row.scale)} ({row.provider})"
    wrong = row.value == first
    kind = f"dot series{series % 4}{' wrong' if wrong else ''}"
    return Markup('<path class="{}" d="{}"><title>{}</title></path>').format(
        kind, mark(x, y, series, wrong), label
    )


def callout(x: float, y: float, value: str) -> Markup:
    """The name of the first divergence beside its mark."""
    anchor = "end" if x > CHART_WIDTH / 2 else "start"
    offset = -10 if anchor == "end" else 10
    name = value if len(value) <= 48 else value[:22] + "…" + value[-22:]
    return Markup('<text class="callout" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        x + offset, max(26, y - 8), anchor, f"first divergence: {name}"
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
