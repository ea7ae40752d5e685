"""Text from models and machines, made fit for a terminal."""

from __future__ import annotations

import math

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def clean(text: object) -> str:
    """Names come from uploaded models: no escape sequences, no line breaks, no direction overrides."""
    return "".join(c if c.isprintable() else _visible(c) for c in str(text))


def _visible(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"


def number(value: float | int | None, digits: int = 4) -> str:
    """A figure for a table; an absent one is a dash."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return str(value)
    return f"{value:.{digits}g}"


def size(count: int) -> str:
    """Bytes in the unit that reads best."""
    amount = float(count)
    for unit in _UNITS:
        if amount < 1024 or unit == _UNITS[-1]:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError("unreachable")


def seconds(value: float) -> str:
    """A duration as a person says it."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 120:
        return f"{value:.1f} s"
    return f"{int(value // 60)} min {int(value % 60)} s"


def shape(dims: list[int | str | None] | None) -> str:
    """`1x224x224x3`; unknown dimensions are `?`, an unknown rank is `(any)`."""
    if dims is None:
        return "(any)"
    if not dims:
        return "scalar"
    return "x".join("?" if d is None else clean(d) for d in dims)
