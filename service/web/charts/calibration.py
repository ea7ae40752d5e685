"""Old statistics beside those measured on the user's data, from the free-form `calibration` record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from service.web.rendering.formats import DASH, number


@dataclass(frozen=True)
class Layer:
    """One batch norm: how far its stored statistics are from the measured ones."""

    name: str
    shift: str
    ratio: str
    stored: str
    measured: str


@dataclass(frozen=True)
class Calibration:
    """The whole comparison. `applied` tells whether the measured ones were folded."""

    samples: str
    applied: bool
    ignored: list[str]
    layers: list[Layer] = field(default_factory=list)
    outputs: list[tuple[str, str, str]] = field(default_factory=list)


def view(record: Mapping[str, Any] | None) -> Calibration | None:
    """None where no calibration data was given."""
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
    )


def _span(values: Any) -> str:
    """`low … high` of a list of numbers."""
    figures = [v for v in values if isinstance(v, (int, float))] if isinstance(values, list) else []
    if not figures:
        return DASH
    low, high = min(figures), max(figures)
    return number(float(low)) if low == high else f"{number(float(low))} … {number(float(high))}"
