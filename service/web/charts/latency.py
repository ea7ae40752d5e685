"""Latency before and after, from the report's free-form record: rows for a table and a small multiple.

Each entry has a `before` and an `after`; each of them is a number of seconds or a record with `median`
and perhaps `low` and `high`, in seconds or with the suffix `_ms` in milliseconds. `batch` and `threads` of an
entry choose its place among the small drawings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from service.web.charts.chart import Chart, bar, line, text, ticks
from service.web.rendering.formats import duration

CELL_WIDTH, CELL_HEIGHT, LEFT, TOP = 280, 116, 96, 40
PLOT_LEFT, PLOT_RIGHT = 52, 22


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

    @property
    def end(self) -> float:
        """Return the largest number that is drawn of it."""
        return max(self.middle, self.high or 0.0)


@dataclass(frozen=True)
class Row:
    """One provider at one level, batch size and number of threads; None where the record does not say."""

    label: str
    before: Measure
    after: Measure
    batch: int | None = None
    threads: int | None = None
    runs: int | None = None

    @property
    def change(self) -> str:
        """Return how much faster or slower, and whether the intervals meet."""
        before, after = self.before, self.after
        ratio = before.middle / after.middle if after.middle else 0.0
        change = f"{ratio:.2f}× faster" if ratio >= 1 else f"{1 / ratio:.2f}× slower" if ratio else "–"
        overlap = None not in (before.low, before.high, after.low, after.high) and not (
            (after.high or 0) < (before.low or 0) or (before.high or 0) < (after.low or 0)
        )
        return change + (" (within the noise)" if overlap else "")


def rows(record: Mapping[str, Any] | None) -> list[Row]:
    """Return all pairs of before and after in the record, wherever they are in it."""
    return [] if not record else list(_rows(record, ""))


def _rows(record: Mapping[str, Any], label: str) -> Iterator[Row]:
    before, after = _measure(record.get("before")), _measure(record.get("after"))
    if before is not None and after is not None:
        named = " ".join(str(record[k]) for k in ("provider", "optimization_level") if record.get(k))
        runs = record["before"].get("runs") if isinstance(record["before"], Mapping) else None
        yield Row(
            label=(named or label or "cpu").replace("_", " "),
            before=before,
            after=after,
            batch=_count(record.get("batch")),
            threads=_count(record.get("threads")),
            runs=_count(runs),
        )
        return
    for key, value in record.items():
        inner = value if isinstance(value, list) else [value]
        for item in inner:
            if isinstance(item, Mapping):
                yield from _rows(item, f"{label} {key}".strip())


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


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


def chart(found: Sequence[Row]) -> Chart | None:
    """Return one small drawing for each batch size (across) and number of threads (down), with intervals.

    Drawings of one batch size share their axis: threads are compared by eye, batch sizes by their numbers.
    """
    if not found:
        return None
    columns = list(dict.fromkeys(_column(row) for row in found))
    lines = list(dict.fromkeys(_line(row) for row in found))
    body = [
        bar("before", LEFT, 8, 11, 11), text(LEFT + 16, 17, "before", "start", "value"),
        bar("after", LEFT + 80, 8, 11, 11),
        text(LEFT + 96, 17, "after; medians, 95 % intervals", "start", "value"),
    ]  # fmt: skip
    for across, column in enumerate(columns):
        mine = [row for row in found if _column(row) == column]
        top = max(max(row.before.end, row.after.end) for row in mine) or 1.0
        left = LEFT + across * CELL_WIDTH
        body.append(text(left + CELL_WIDTH / 2, TOP, column, kind="value"))
        for down, name in enumerate(lines):
            y = TOP + 8 + down * CELL_HEIGHT
            if across == 0:
                body.append(text(LEFT - 8, y + 34, name, "end", "value"))
            body += [part for row in mine if _line(row) == name for part in _cell(row, left, y, top)]
    width, height = LEFT + CELL_WIDTH * len(columns), TOP + 8 + CELL_HEIGHT * len(lines)
    words = "; ".join(
        f"{row.label} {_column(row)} {_line(row)}: {row.before.text()}, then {row.after.text()}"
        for row in found[:12]
    )
    return Chart("latency", "Latency before and after", words, width, height, Markup("".join(body)))


def _column(row: Row) -> str:
    return f"batch {row.batch}" if row.batch else "batch as given"


def _line(row: Row) -> str:
    if row.threads is None:
        return row.label if len(row.label) < 15 else row.label[:14] + "…"
    return "1 thread" if row.threads == 1 else f"{row.threads} threads"


def _cell(row: Row, left: float, top: float, largest: float) -> list[str]:
    x, room = left + PLOT_LEFT, CELL_WIDTH - PLOT_LEFT - PLOT_RIGHT
    bottom, parts = top + 66, []
    for value in ticks(0.0, largest, 4):
        at = x + room * value / largest
        parts += [
            line("grid", at, top + 6, at, bottom),
            text(at, bottom + 15, duration(value) if value else "0"),
        ]
    for kind, one, y in (("before", row.before, top + 12), ("after", row.after, top + 40)):
        parts.append(bar(kind, x, y, room * one.middle / largest, 20, f"{kind}: {one.text()}"))
        parts.append(text(x - 5, y + 14, duration(one.middle), "end"))
        if one.low is not None and one.high is not None:
            low, high = (x + room * edge / largest for edge in (one.low, one.high))
            parts += [line("whisker", low, y + 10, high, y + 10), line("whisker", low, y + 5, low, y + 15)]
            parts.append(line("whisker", high, y + 5, high, y + 15))
    parts += [line("axis", x, bottom, x + room, bottom), text(x, bottom + 34, row.change, "start", "value")]
    return parts
