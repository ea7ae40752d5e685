"""Two artifacts against each other: is one really slower, or was it the session, the moment, the machine?

One session of a file may be faster than the next of the same file by a third (where its arenas happen to
lie), and a shared machine has seasons. So each round opens both files anew, the order changes from round to
round, runs alternate within the round, and the figure is the median over rounds of the rounds' own ratios.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.sessions import session

ROUNDS = 11
RUNS = 8
SECONDS = 0.25  # at least for both files together in one round


@dataclass(frozen=True)
class Duel:
    """ratio: ours / theirs, median over rounds. low, high: 95 % bootstrap interval of that median."""

    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.ratio:.2f}x [{self.low:.2f}, {self.high:.2f}]"


def duel(ours: Path, theirs: Path, feeds: Mapping[str, np.ndarray], rounds: int = ROUNDS) -> Duel:
    """Compare the latency of two artifacts at the runtime's defaults.

    Raises: onnxruntime's own exceptions where one does not run.
    """
    ratios = []
    for turn in range(rounds):
        order = (ours, theirs) if turn % 2 == 0 else (theirs, ours)
        best = fastest({path: session(path) for path in order}, feeds)
        ratios.append(best[ours] / best[theirs])
    low, high = interval(ratios)
    return Duel(statistics.median(ratios), low, high)


def fastest(sessions: Mapping[Path, Any], feeds: Mapping[str, np.ndarray]) -> dict[Path, float]:
    """Least seconds of one run by file, runs alternating."""
    for ready in sessions.values():
        ready.run(None, feeds)
    best = dict.fromkeys(sessions, float("inf"))
    begun, runs = time.perf_counter(), 0
    while runs < RUNS or time.perf_counter() - begun < SECONDS:
        runs += 1
        for path, ready in sessions.items():
            start = time.perf_counter()
            ready.run(None, feeds)
            best[path] = min(best[path], time.perf_counter() - start)
    return best


def interval(ratios: list[float], draws: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, (draws, len(ratios))), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(low), float(high)
