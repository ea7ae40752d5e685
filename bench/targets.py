"""Targets of the design beside what is measured: median ratio of alternating pairs, spread, and `MISSED`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

ROUNDS = 5  # at least; a single pair measures the neighbours of a shared machine


@dataclass(frozen=True)
class Target:
    """A bound on a ratio. at_least: whether it is a lower bound."""

    name: str
    bound: float
    at_least: bool = False

    def holds(self, ratio: float) -> bool:
        """Whether a ratio reaches the target; one that is not a number does not."""
        return ratio >= self.bound if self.at_least else ratio <= self.bound


def rounds(measures: dict[str, Callable[[], float]], count: int = ROUNDS) -> dict[str, list[float]]:
    """Measure everything `count` times, the order turned round from one time to the next.

    Raises: ValueError for fewer times than `ROUNDS`.
    """
    if count < ROUNDS:
        raise ValueError(f"{count} rounds say too little; at least {ROUNDS}")
    found: dict[str, list[float]] = {name: [] for name in measures}
    for turn in range(count):
        for name in list(measures)[:: 1 if turn % 2 == 0 else -1]:
            found[name].append(measures[name]())
    return found


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return the ratio of each pair."""
    return [one / two for one, two in zip(above, below, strict=True)]


def line(target: Target, found: Sequence[float]) -> str:
    """Return one line: name, median, spread, target, and whether it is missed."""
    middle = statistics.median(found)
    sign = ">=" if target.at_least else "<="
    told = "holds" if target.holds(middle) else "MISSED"
    spread = f"[{min(found):.2f} to {max(found):.2f}, {len(found)} pairs]"
    return f"{target.name:<52} {middle:7.2f} {spread:<30} target {sign} {target.bound:g}  {told}"


def report(rows: Sequence[tuple[Target, Sequence[float]]]) -> list[str]:
    """Print every target; return the names of those that are missed."""
    for target, found in rows:
        print(line(target, found), flush=True)
    return [target.name for target, found in rows if not target.holds(statistics.median(found))]
