"""Formats and providers of other packages, by entry points.

A package names an object in the group `bnfold.sources` or `bnfold.providers`; docs/reference/plug-ins.md
tells what the object must have.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from folding.errors import UsageError

SOURCES, PROVIDERS = "bnfold.sources", "bnfold.providers"
# What an object of a group must have.
NEEDED: dict[str, Sequence[str]] = {
    SOURCES: ("name", "sniff", "load", "inspect"),
    PROVIDERS: ("unavailable", "variants", "arithmetic", "open"),
}


@cache
def found(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name, sorted; nothing is imported."""
    return {point.name: point for point in sorted(entry_points(group=group), key=lambda each: each.name)}


@cache
def load(group: str, name: str) -> Any:
    """Return the object of one entry point.

    Raises: UsageError (`plug_in_failed`) when it cannot be imported or lacks what its group needs.
    """
    point = found(group)[name]
    where = f"{point.value} of {point.dist.name if point.dist else 'an unknown package'}"
    hint = "Repair or uninstall the package. docs/reference/plug-ins.md says what a plug-in must have."
    try:
        made = point.load()
    except Exception as error:
        raise UsageError(
            f"The plug-in {name!r} ({where}) cannot be imported: {type(error).__name__}: {error}",
            code="plug_in_failed",
            hint=hint,
        ) from error
    missing = [attribute for attribute in NEEDED[group] if not hasattr(made, attribute)]
    if missing:
        raise UsageError(
            f"The plug-in {name!r} ({where}) does not fit the group {group}: it lacks {', '.join(missing)}.",
            code="plug_in_failed",
            hint=hint,
        )
    return made
