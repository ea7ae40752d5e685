"""What every code means and what to do about it: the text behind `bnfold explain CODE`, docs and pages.

One table per kind, `code -> Text`; `folding.errors.texts` holds the tables.
A test (`tests/unit/folding/errors/test_catalogue.py`) fails when an enum member or a literal code of the tree
is missing here.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from folding.errors.texts.base import Text
from folding.errors.texts.hazards import HAZARDS
from folding.errors.texts.health import HEALTH
from folding.errors.texts.models import MODELS
from folding.errors.texts.reading import READING
from folding.errors.texts.refused import REFUSED
from folding.errors.texts.requests import REQUESTS
from folding.errors.texts.runs import RUNS
from folding.errors.texts.service import SERVICE
from folding.errors.texts.skips import SKIPS


def join(*tables: Mapping[str, Text]) -> dict[str, Text]:
    """Return one table of all. Raises ValueError for a code that two of them explain."""
    joined: dict[str, Text] = {}
    for table in tables:
        twice = sorted(joined.keys() & table.keys())
        if twice:
            raise ValueError(f"codes explained twice: {', '.join(twice)}")
        joined.update(table)
    return joined


ERRORS: Final = join(MODELS, READING, REFUSED, RUNS, REQUESTS, SERVICE)
KINDS: Final[dict[str, dict[str, Text]]] = {
    "error": ERRORS,
    "health": HEALTH,
    "skip": SKIPS,
    "hazard": HAZARDS,
}


@dataclass(frozen=True)
class Entry:
    """One code of one kind (`error`, `health`, `skip`, `hazard`) with its explanation."""

    code: str
    kind: str
    title: str
    meaning: str
    remedy: str
    example: str


def entries() -> list[Entry]:
    """All of them, by kind in table order."""
    return [Entry(code, kind, *text) for kind, table in KINDS.items() for code, text in table.items()]


def lookup(code: str) -> list[Entry]:
    """Entries for a code; a code may be of several kinds. Dashes and case do not matter. Empty if unknown."""
    wanted = code.strip().lower().replace("-", "_")
    return [entry for entry in entries() if entry.code.lower() == wanted]


def similar(code: str, count: int = 3) -> list[str]:
    """Known codes that look like an unknown one."""
    known = sorted({entry.code for entry in entries()})
    return difflib.get_close_matches(code.strip().lower().replace("-", "_"), known, n=count, cutoff=0.5)
