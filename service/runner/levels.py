"""Levels of the sandbox, weakest first: the one place that says which there are and what each means.

The canary (`service/runner/jail/canary`) finds out which one holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

MEANINGS: Final = {
    "none": "less than `partial`; the service refuses to start, unless told `--allow-unsandboxed`",
    "partial": "limits bind, and all file acts, or all acts of processes and network, are refused",
    "strong": "every act of the canary is refused",
    "full": "every act is refused, and mounts, processes, network and IPC are in namespaces of their own",
}
LEVELS: Final = tuple(MEANINGS)


def rank(level: str) -> int:
    """Return the place of a level, 0 the weakest; an unknown word counts as `none`."""
    return LEVELS.index(level) if level in MEANINGS else 0


def weakest(levels: Iterable[str], default: str = "none") -> str:
    """Return the weakest of some levels, `default` where there are none."""
    return min(levels, key=rank, default=default)
