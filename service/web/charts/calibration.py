"""Old statistics beside those measured on the user's data, from the free-form `calibration` record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from service.web.charts import histogram
from service.web.charts.chart import Chart
from service.web.charts.histogram import Counts
from service.web.rendering.formats import DASH, number

STATISTICS = ("mean", "variance")
BINS = 20
FIRST = 64  # channels of a layer that the record holds (`folding.calibrate.compare`)


@dataclass(frozen=True)
class Layer:
    """One batch norm: how far its stored statistics are from the measured ones."""

    name: str
    shift: str
    ratio: str
    stored: str
    measured: str
    distance: float = 0.0
    charts: list[Chart] = field(default_factory=list)


@dataclass(frozen=True)
class Calibration:
    """The whole comparison. `applied` tells whether the measured ones were folded."""

    samples: str
    applied: bool
    ignored: list[str]
    layers: list[Layer] = field(default_factory=list)
    outputs: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def worst(self) -> Layer | None:
        """Return the layer whose mean is farthest off; None where nothing was measured."""
        return max((one for one in self.layers if one.charts), key=lambda one: one.distance, default=None)


def view(record: Mapping[str, Any] | None) -> Calibration | None:
    """Return the comparison; None where no calibration data was given."""
    if not record:
        return None
    layers = [row for row in record.get("layers", []) if isinstance(row, Mapping)]
    outputs = record.get("outputs", {})
    return Calibration(
        samples=number(record.get("samples")),
        applied=bool(record.get("applied")),
        ignored=[str(name) for name in record.get("ignored_arrays", [])],
        layers=[_layer(row) for row in layers],
        outputs=[
            (name, number(row.get("max_abs")), number(row.get("relative_rms")))
            for name, row in outputs.items()
            if isinstance(row, Mapping)
        ],
    )


def _layer(row: Mapping[str, Any]) -> Layer:
    if not row.get("measured"):
        return Layer(str(row.get("name", "")), DASH, DASH, DASH, "not measured")
    return Layer(
        name=str(row.get("name", "")),
        shift=number(row.get("mean_shift")),
        ratio=_span(row.get("variance_ratio")),
        stored=f"mean {_span(row.get('stored_mean'))}, variance {_span(row.get('stored_variance'))}",
        measured=f"mean {_span(row.get('mean'))}, variance {_span(row.get('variance'))}",
        distance=max((abs(v) for v in _finite([row.get("mean_shift")])), default=0.0),
        charts=[chart for what in STATISTICS if (chart := _chart(row, what)) is not None],
    )


def _chart(row: Mapping[str, Any], what: str) -> Chart | None:
    """Return stored and measured values over one axis; None where one of them is missing."""
    stored, measured = _finite(row.get(f"stored_{what}")), _finite(row.get(what))
    if not stored or not measured:
        return None
    low, high = min(*stored, *measured), max(*stored, *measured)
    counts = [
        Counts("stored", "stored", binned(stored, low, high)),
        Counts("measured", "measured", binned(measured, low, high)),
    ]
    told = f"stored {_span(stored)}, measured {_span(measured)}"
    if len(stored) == FIRST:
        told += f"; the first {FIRST} channels"
    return histogram.draw(f"calibration-{what}", f"Moving {what}", told, low, high, counts, what)


def binned(values: list[float], low: float, high: float) -> list[int]:
    """Return counts in `BINS` equal bins over [low, high]; the last bin has its upper end."""
    counts = [0] * BINS
    for value in values:
        place = (value - low) / (high - low) if high > low else 0.0
        counts[min(BINS - 1, max(0, int(place * BINS)))] += 1
    return counts


def _finite(values: Any) -> list[float]:
    """Return the numbers of a list that have a place on an axis."""
    found = values if isinstance(values, list) else []
    numbers = (float(v) for v in found if isinstance(v, (int, float)) and not isinstance(v, bool))
    return [v for v in numbers if math.isfinite(v)]


def _span(values: Any) -> str:
    """`low … high` of a list of numbers."""
    figures = [v for v in values if isinstance(v, (int, float))] if isinstance(values, list) else []
    if not figures:
        return DASH
    low, high = min(figures), max(figures)
    return number(float(low)) if low == high else f"{number(float(low))} … {number(float(high))}"
