"""Find out what a runner can really not do: it tries, inside its own sandbox, before it gets a job.

Each act returns None when it was refused, or a word on what it managed. Nothing here trusts a feature
list: a layer that is on but lets something through shows as an escape, and the level falls. What the levels
mean is said in `service/runner/levels.py`.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from service.runner.jail.canary import files, limits, network, processes
from service.runner.jail.canary.acts import Act, Facts
from service.runner.jail.canary.trap import NAMESPACES, Trap, namespaces, shared

__all__ = ["FILES", "LIMITS", "NAMESPACES", "PROCESSES", "Trap", "level_of", "own_namespaces", "run"]

FILES: Final[dict[str, Act]] = files.ACTS
# Users and modes first: `unshare`, which comes later, would change who we are.
PROCESSES: Final[dict[str, Act]] = {**processes.BEFORE, **network.ACTS, **processes.ACTS}
LIMITS: Final[dict[str, Act]] = limits.ACTS
_KINDS: Final = {"files": FILES, "processes": PROCESSES, "limits": LIMITS}


def run(facts: Facts, own: dict[str, str]) -> dict[str, str | None]:
    """Try every act. Returns: act -> None (refused) or what it managed; `namespaces` lists shared ones."""
    facts = {**facts, "own_namespaces": own}
    results = {name: _attempt(act, facts) for name, act in {**FILES, **PROCESSES, **LIMITS}.items()}
    results["namespaces"] = " ".join(shared(facts)) or None
    for left in ("moved", "hard", "soft", "fifo", "large"):
        with contextlib.suppress(OSError):
            os.unlink(left)
    return results


def level_of(results: dict[str, str | None], sprung: list[str]) -> str:
    """Return the level that these results, and the trap's own evidence, amount to."""
    if not results:
        return "none"
    escaped = {name for name, what in results.items() if what is not None}
    held = {kind: not escaped & set(acts) for kind, acts in _KINDS.items()}
    if all(held.values()) and not sprung:
        return "strong" if "namespaces" in escaped else "full"
    if held["limits"] and (held["files"] or held["processes"]):
        return "partial"
    return "none"


def own_namespaces() -> dict[str, str]:
    """Return this process's namespaces; the child asks before it enters the sandbox."""
    return namespaces()


def _attempt(act: Act, facts: Facts) -> str | None:
    try:
        return act(facts)
    except (OSError, MemoryError, OverflowError):
        return None
