"""Runtimes that answer differently at different optimization levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from folding.report import Hazard
from folding.verify.rows import Candidate

if TYPE_CHECKING:
    from folding.verify.core import Study


def find(study: Study, candidates: list[Candidate]) -> list[Hazard]:
    """Hazards of this artifact."""
    return []
