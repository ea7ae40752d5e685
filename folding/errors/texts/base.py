"""The form of one explanation."""

from __future__ import annotations

from typing import NamedTuple


class Text(NamedTuple):
    """A few words, what was found and why it matters, what the reader can do next, and the smallest case."""

    title: str
    meaning: str
    remedy: str
    example: str
