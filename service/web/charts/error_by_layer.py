"""Error of each layer beside what rounding can do there, and the error that has gathered up to each layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from folding.report import DriftRow, Report, SegmentReport
from service.web.charts.chart import Chart, line, n, printable, shortened, text

POINTS = 400  # more of them are a smear, and a slow one
NAMED = 28  # names below the axis
WIDTH, LEFT, RIGHT, TOP, PLOT = 960, 64, 12, 34, 220
ZERO = 16  # height of the strip for exact zeros, below the logarithmic part
NAMES = 118
MARKS = ("M-4 0a4 4 0 108 0a4 4 0 10-8 0z", "M-4-4h8v8h-8z", "M0-5l5 9h-10z", "M0-5l5 5l-5 5l-5-5z")
STEPS = {"fold": "fold, in float64", "runtime": "runtime against float64"}


@dataclass(frozen=True)
class Series:
    """Errors relative to the layer's scale, by layer; `bounds` where something bounds them."""

    label: str
    errors: Mapping[str, float]
    bounds: Mapping[str, float] = field(default_factory=dict)


def charts(report: Report) -> list[Chart]:
    """Return the drawings that the report has numbers for."""
    found = [
        draw(
            "error-of-each-layer", "Error of each layer, with its bound",
            "Each layer on the source's own values: what the fold or the runtime changes, and as a line"
            " what rounding can do there.",
            of_segments(report.segments), report.first_divergence,
        ),
        draw(
            "error-by-layer", "Error gathered up to each layer",
            "The same input through both graphs: how far each value is from the source's, of its scale.",
            of_drift(report.drift), report.first_divergence,
        ),
    ]  # fmt: skip
    return [chart for chart in found if chart is not None]


def of_segments(rows: Sequence[SegmentReport]) -> list[Series]:
    """Return a series for each step; of several rows of one layer the one nearest its bound."""
    found = []
    for step, label in STEPS.items():
        worst: dict[str, SegmentReport] = {}
        for row in rows:
            if row.step == step and (row.value not in worst or row.ratio > worst[row.value].ratio):
                worst[row.value] = row
        if worst:
            errors = {name: _share(row.difference, row.scale) for name, row in worst.items()}
            bounds = {name: _share(r.bound, r.scale) for name, r in worst.items() if r.status == "bounded"}
            found.append(Series(label, errors, bounds))
    return found


def of_drift(rows: Sequence[DriftRow]) -> list[Series]:
    """Return a series for each provider."""
    return [
        Series(name, {row.value: row.max_rel for row in rows if row.provider == name})
        for name in dict.fromkeys(row.provider for row in rows)
    ]


def _share(amount: float, scale: float) -> float:
    return amount / scale if scale else (0.0 if amount == 0 else math.inf)


def draw(name: str, title: str, words: str, series: list[Series], first: str | None) -> Chart | None:
    """Return the chart; None where no error is a finite number. first: the first layer that is off."""
    layers = thinned(series, first)
    shown = [Series(s.label, _kept(s.errors, layers), _kept(s.bounds, layers)) for s in series]
    values = [v for s in shown for v in (*s.errors.values(), *s.bounds.values())]
    if not any(s.errors for s in shown):
        return None
    across, span = _places(layers), _span(values)
    body = [*_frame(span), *_layer_names(layers, across), *_legend(shown)]
    if first in across:
        body += [line("divergence", across[first], TOP, across[first], TOP + PLOT + ZERO)]
        body += [text(across[first] + 4, TOP + 10, "first divergence", "start")]
    for index, one in enumerate(shown):
        body += _drawn(index, one, across, span, first)
    height = TOP + PLOT + ZERO + NAMES
    return Chart(name, title, words, WIDTH, height, Markup("".join(body)))


def thinned(series: Sequence[Series], keep: str | None) -> list[str]:
    """Return at most about `POINTS` layers in order: the worst of each run of neighbours, and `keep`."""
    order = list(dict.fromkeys(name for one in series for name in one.errors))
    run = -(-len(order) // POINTS)
    if run <= 1:
        return order
    worst: dict[str, float] = {}
    for one in series:
        for name, error in one.errors.items():
            bound = one.bounds.get(name)
            worst[name] = max(worst.get(name, 0.0), error / bound if bound else error)
    runs = (order[start : start + run] for start in range(0, len(order), run))
    chosen = {max(names, key=lambda name: worst[name]) for names in runs} | {keep}
    return [name for name in order if name in chosen]


def _kept(values: Mapping[str, float], layers: Iterable[str]) -> dict[str, float]:
    return {name: values[name] for name in layers if name in values and math.isfinite(values[name])}


def _places(layers: Sequence[str]) -> dict[str, float]:
    step = (WIDTH - LEFT - RIGHT - 20) / max(1, len(layers) - 1)
    return {name: LEFT + 10 + index * step for index, name in enumerate(layers)}


def _span(values: Sequence[float]) -> tuple[int, int]:
    positive = [value for value in values if value > 0]
    if not positive:
        return -8, -7
    high = min(308, math.ceil(math.log10(max(positive))))  # the largest power of ten that is a float
    return max(math.floor(math.log10(min(positive))), high - 16, -320), max(high, -319)


def height_of(error: float, span: tuple[int, int]) -> float:
    """Return the y of an error: logarithmic, exact zeros in a strip of their own below."""
    low, high = span
    if error <= 0:
        return TOP + PLOT + ZERO - 5
    place = (min(max(math.log10(error), low), high) - low) / max(1, high - low)
    return TOP + PLOT - PLOT * place


def _frame(span: tuple[int, int]) -> list[str]:
    low, high = span
    parts = [text(LEFT - 8, TOP - 12, "error ÷ largest element", "start")]
    for power in range(low, high + 1, max(1, (high - low) // 6)):
        y = height_of(10.0**power, span)
        parts += [line("grid", LEFT, y, WIDTH - RIGHT, y), text(LEFT - 8, y + 4, f"1e{power}", "end")]
    bottom = TOP + PLOT + ZERO
    parts += [text(LEFT - 8, bottom - 1, "0", "end"), line("axis", LEFT, bottom, WIDTH - RIGHT, bottom)]
    return [*parts, line("axis", LEFT, TOP, LEFT, bottom)]


def _layer_names(layers: Sequence[str], across: Mapping[str, float]) -> list[str]:
    parts, y = [], TOP + PLOT + ZERO
    for name in layers[:: -(-len(layers) // NAMED) or 1]:
        x = across[name]
        turned = f'transform="rotate(-55 {n(x)} {n(y + 12)})"'
        words = escape(printable(shortened(name, 20)))
        parts.append(line("axis", x, y, x, y + 4))
        parts.append(
            f'<text class="tick" {turned} x="{n(x)}" y="{n(y + 12)}" text-anchor="end">{words}'
            f"<title>{escape(printable(name))}</title></text>"
        )
    return [*parts, text(WIDTH / 2, y + NAMES - 4, "layers, in graph order")]


def _legend(series: Sequence[Series]) -> list[str]:
    parts, x = [], float(LEFT + 150)
    for index, one in enumerate(series):
        parts.append(
            f'<g class="series-{index % 4}"><path class="{_kind(index)}" '
            f'transform="translate({n(x)} 14)" d="{MARKS[index % 4]}"/></g>'
        )
        parts.append(text(x + 10, 18, one.label, "start", "value"))
        x += 24 + 6.2 * len(one.label)
        if one.bounds:
            parts.append(f'<g class="series-{index % 4}"><path class="bound" d="M{n(x)} 14h26"/></g>')
            parts.append(text(x + 32, 18, "its bound", "start", "value"))
            x += 100
    return parts


def _kind(index: int) -> str:
    return "hollow" if index % 2 else "mark"


def _drawn(
    index: int, one: Series, across: Mapping[str, float], span: tuple[int, int], first: str | None
) -> list[str]:
    parts = [f'<g class="series-{index % 4}">']
    if one.bounds:
        parts.append(f'<path class="bound" d="{_path(one.bounds, across, span)}"/>')
    else:
        parts.append(f'<path class="line" d="{_path(one.errors, across, span)}"/>')
    for name, error in one.errors.items():
        told = f"{name}: {error:.3g} ({one.label})"
        if name in one.bounds:
            told += f", bound {one.bounds[name]:.3g}"
        ringed = " first" if name == first else ""
        at = f"translate({n(across[name])} {n(height_of(error, span))})"
        parts.append(
            f'<path class="{_kind(index)}{ringed}" transform="{at}" d="{MARKS[index % 4]}">'
            f"<title>{escape(printable(told))}</title></path>"
        )
    return [*parts, "</g>"]


def _path(values: Mapping[str, float], across: Mapping[str, float], span: tuple[int, int]) -> str:
    points = (f"{n(across[name])} {n(height_of(value, span))}" for name, value in values.items())
    return "M" + "L".join(points)
