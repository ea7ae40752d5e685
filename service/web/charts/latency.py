"""Latency before and after, from the report's free-form `latency` record to rows that can be drawn.

Each entry has a `before` and an `after`; each of them is a number of seconds or a record with `median`
and perhaps `low` and `high`, in seconds or with the suffix `_ms` in milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from service.web.rendering.formats import duration

WIDTH = 200.0


@dataclass(frozen=True)
class Row:
    """One provider at one level; bars in a box 200 wide."""

    label: str
    before: str
    after: str
    change: str
    words: str
    bar_before: float
    bar_after: float


@dataclass(frozen=True)
class Measure:
    """Seconds: the middle, and the confidence interval where one was taken."""

    middle: float
    low: float | None
    high: float | None

    def text(self) -> str:
        """`1.2 ms (1.1 ms – 1.3 ms)`."""
        if self.low is None or self.high is None:
            return duration(self.middle)
        return f"{duration(self.middle)} ({duration(self.low)} – {duration(self.high)})"


def rows(record: Mapping[str, Any] | None) -> list[Row]:
    """All pairs of before and after in the record, wherever they are in it."""
    return [] if not record else [_row(label, *pair) for label, *pair in _pairs(record, "")]


def _pairs(record: Mapping[str, Any], label: str) -> Iterator[tuple[str, Measure, Measure]]:
    before, after = _measure(record.get("before")), _measure(record.get("after"))
    if before is not None and after is not None:
        named = " ".join(str(record[k]) for k in ("provider", "optimization_level") if record.get(k))
        yield named or label or "cpu", before, after
        return
    for key, value in record.items():
        inner = value if isinstance(value, list) else [value]
        for item in inner:
            if isinstance(item, Mapping):
                yield from _pairs(item, f"{label} {key}".strip())


def _measure(value: Any) -> Measure | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Measure(float(value), None, None)
    if not isinstance(value, Mapping):
        return None
    middle = _seconds(value, "median") or _seconds(value, "mean")
    return None if middle is None else Measure(middle, _seconds(value, "low"), _seconds(value, "high"))


def _seconds(value: Mapping[str, Any], name: str) -> float | None:
    for key, factor in ((name, 1.0), (f"{name}_s", 1.0), (f"{name}_ms", 1e-3), (f"{name}_us", 1e-6)):
        figure = value.get(key)
        if isinstance(figure, (int, float)):
            return float(figure) * factor
    return None


def _row(label: str, before: Measure, after: Measure) -> Row:
    top = max(before.middle, after.middle) or 1.0
    ratio = before.middle / after.middle if after.middle else 0.0
    change = f"{ratio:.2f}× faster" if ratio >= 1 else f"{1 / ratio:.2f}× slower" if ratio else "–"
    overlap = None not in (before.low, before.high, after.low, after.high) and not (
        (after.high or 0) < (before.low or 0) or (before.high or 0) < (after.low or 0)
    )
    if overlap:
        change += " (within the noise)"
    return Row(
        label.replace("_", " "),
        before.text(),
        after.text(),
        change,
        f"before {before.text()}, after {after.text()}",
        round(WIDTH * before.middle / top, 1),
        round(WIDTH * after.middle / top, 1),
    )
