"""What the stages of a verification found besides rows, in words, and the sum of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Findings:
    """Sentences for the report, by what they mean for the verdict.

    faults: the artifact is wrong. gaps: something needed could not be checked (no `pass`). notes, limits:
    remarks that the summary repeats. skipped: single runs that were left out, with the reason.
    """

    faults: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    def __add__(self, other: Findings) -> Findings:
        """Both, in order."""
        return Findings(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @classmethod
    def total(cls, parts: Iterable[Findings]) -> Findings:
        """All of them, in order."""
        found = cls()
        for part in parts:
            found += part
        return found


def reason(error: Exception, length: int = 200) -> str:
    """First `length` characters of an exception's text, on one line."""
    return " ".join(str(error).split())[:length]
