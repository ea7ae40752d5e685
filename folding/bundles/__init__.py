"""Verified artifacts packed as deployers want them: one module for each kind of bundle.

To add a kind: a module with `KIND`, `TITLE` and `members`, and its name in `BUNDLES`.
"""

from __future__ import annotations

from typing import cast

from folding.bundles import folder, kserve, ort_format, triton
from folding.bundles.base import Bundle, Contents, Member
from folding.errors import UsageError

BUNDLES: tuple[Bundle, ...] = cast("tuple[Bundle, ...]", (triton, kserve, ort_format, folder))
KINDS = tuple(bundle.KIND for bundle in BUNDLES)

__all__ = ["BUNDLES", "KINDS", "Bundle", "Contents", "Member", "find"]


def find(kind: str) -> Bundle:
    """Return the kind of bundle. Raises: UsageError for an unknown one."""
    for bundle in BUNDLES:
        if kind == bundle.KIND:
            return bundle
    raise UsageError(
        f"There is no bundle {kind!r}.", code="unknown_bundle", hint=f"There are {', '.join(KINDS)}."
    )
