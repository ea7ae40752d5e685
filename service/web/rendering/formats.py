"""Numbers, sizes, times and shapes as people read them. Pure; used as Jinja filters."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

from folding.report import figures

DASH = "–"


def number(value: float | int | str | None, digits: int = 3) -> str:
    """A figure for a table: grouped integers, `digits` significant digits otherwise; absent is a dash."""
    if value is None or value == "":
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return figures.count(value)
    try:
        figure = float(value)
    except ValueError:
        return str(value)
    if math.isnan(figure):
        return "NaN"
    if math.isinf(figure):
        return "∞" if figure > 0 else "−∞"
    return f"{figure:.{digits}g}".replace("-", "−")


def size(count: float | None) -> str:
    """Return bytes for people, or a dash."""
    return DASH if count is None else figures.size(count)


def duration(value: float | None) -> str:
    """Return seconds for people, or a dash."""
    return DASH if value is None else figures.seconds(value)


def shape(dims: list[int | str | None] | None) -> str:
    """`1 × 224 × 224 × 3`; unknown dimensions are `?`, an unknown rank is `any shape`."""
    if dims is None:
        return "any shape"
    return " × ".join("?" if d is None or d == "" else str(d) for d in dims) or "scalar"


def moment(value: float | str | None) -> str:
    """A point in time (seconds since the epoch, or RFC 3339) as `2026-01-31 12:00:00 UTC`."""
    when = parse_moment(value)
    return DASH if when is None else when.strftime("%Y-%m-%d %H:%M:%S UTC")


def machine_moment(value: float | str | None) -> str:
    """The same for the `datetime` attribute of a `time` element; the page's script makes it local."""
    when = parse_moment(value)
    return "" if when is None else when.isoformat().replace("+00:00", "Z")


def parse_moment(value: float | str | None) -> datetime | None:
    """A point in time in UTC, or None for what is none."""
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str):
            return datetime.fromisoformat(value).astimezone(UTC)
        return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def short_digest(digest: str | None) -> str:
    """`sha256:0123456789ab…`, enough to compare by eye."""
    if not digest:
        return DASH
    algorithm, _, value = digest.partition(":")
    return f"{algorithm}:{value[:12]}…" if len(value) > 12 else digest


def words(code: str | None) -> str:
    """`never_updated` as `never updated`."""
    return (code or "").replace("_", " ")


def prose(text: str) -> Markup:
    """Text of our own contract, with `names` set as code; everything in it is escaped first."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def plain(text: str) -> str:
    """Return the text without the marks of code and a full stop, to tell whether two say the same."""
    return text.replace("`", "").strip().rstrip(".")


FILTERS: dict[str, Any] = {
    "number": number,
    "filesize": size,
    "duration": duration,
    "shape": shape,
    "moment": moment,
    "machine_moment": machine_moment,
    "short_digest": short_digest,
    "words": words,
    "prose": prose,
    "plain": plain,
}
