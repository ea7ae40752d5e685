"""Text from models and machines, made fit for a terminal."""

from __future__ import annotations

import math

from folding.report import figures


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
        return figures.count(value)
    if not math.isfinite(value):
        return str(value)
    return f"{value:.{digits}g}"


def shape(dims: list[int | str | None] | None) -> str:
    """`1x224x224x3`; unknown dimensions are `?`, an unknown rank is `(any)`."""
    if dims is None:
        return "(any)"
    if not dims:
        return "scalar"
    return "x".join("?" if d is None else clean(d) for d in dims)
