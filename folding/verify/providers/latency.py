"""How long one run takes before and after the fold, with 95 % confidence intervals.

The two sides run in turn, so that a busy machine slows both. Medians, because the noise of a computer has one
side only; their interval is the pair of order statistics that holds the median in 95 of 100 samples, that of
their ratio comes from resampling.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from folding.ir.types import Feeds
from folding.verify.providers.base import Provider, Session
from folding.verify.providers.cpu import Cpu

SECONDS = 2.0  # for both sides together
LEAST, MOST = 11, 400
ROWS = (1, 8, 32)  # batch sizes; the first two rarely fill a device
THREADS = (1, 2)  # of the CPU's sessions
CELL = 0.3  # part of `SECONDS` for each batch size and number of threads
Z95 = 1.96


def measure(
    provider: Provider,
    variant: str,
    level: str,
    before: Path,
    after: Path,
    feeds: Feeds,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Medians and intervals in seconds: `before`, `after`, and `speedup` = before / after.

    Raises: whatever the runtime raises when one side does not load or run.
    """
    return compare([provider.open(path, level, variant) for path in (before, after)], feeds, seconds)


def compare(sides: list[Session], feeds: Feeds, seconds: float | None = None) -> dict[str, Any]:
    """The same of two open sessions. Raises: whatever the runtime raises when one side does not run."""
    samples = alternate(sides, feeds, SECONDS if seconds is None else seconds)
    first, second = (np.asarray(side) for side in samples)
    return {
        "before": interval(first),
        "after": interval(second),
        "speedup": speedup(first, second),
        "shape": {name: list(array.shape) for name, array in feeds.items()},
        "conditions": "runs in turn, after two runs to warm up; one thread a core, not pinned",
    }


def grid(
    provider: Cpu, level: str, before: Path, after: Path, several: Sequence[tuple[int | None, Feeds]]
) -> dict[str, dict[str, Any]]:
    """Return the same for each batch size and number of threads of the CPU, by a label such as
    `enable_all batch 8, 2 threads`; each entry holds `batch` and `threads`.

    several: batch sizes, None for one that the model fixes, with their inputs.
    Raises: whatever the runtime raises.
    """
    found: dict[str, dict[str, Any]] = {}
    for threads in THREADS:
        sides = [provider.open_with_threads(path, level, threads) for path in (before, after)]
        for rows, feeds in several:
            size = f" batch {rows}" if rows else ""
            label = f"{level}{size}, {threads} thread{'s' if threads > 1 else ''}"
            measured = compare(sides, feeds, SECONDS * CELL)
            measured["conditions"] = f"runs in turn, after two runs to warm up; {threads} threads, not pinned"
            found[label] = measured | {"batch": rows, "threads": threads}
    return found


def batches(inputs: Sequence[onnx.ValueInfoProto], feeds: Feeds) -> Iterator[tuple[int, Feeds]]:
    """Yield (rows, feeds) for each size in `ROWS`, the given rows repeated; nothing for a fixed batch.

    inputs: those of the graph, which tell whether the first dimension is free.
    """
    free = {v.name for v in inputs if dims(v) and not dims(v)[0].HasField("dim_value")}
    stacked = {name for name in free if feeds[name].dtype != object and len(feeds[name])}
    if not stacked or len(stacked) < len(free):
        return
    for rows in ROWS:
        yield (
            rows,
            {
                name: np.resize(array, (rows, *array.shape[1:])) if name in stacked else array
                for name, array in feeds.items()
            },
        )


def dims(value: onnx.ValueInfoProto) -> Sequence[onnx.TensorShapeProto.Dimension]:
    """Dimensions of a tensor input; none where there is no shape."""
    found: Sequence[onnx.TensorShapeProto.Dimension] = value.type.tensor_type.shape.dim
    return found


def alternate(sides: list[Session], feeds: Feeds, seconds: float) -> list[list[float]]:
    """Seconds of single runs, side by side in time."""
    samples: list[list[float]] = [[] for _ in sides]
    for side in sides:
        side.run(feeds)
        side.run(feeds)
    deadline = time.perf_counter() + seconds
    while len(samples[0]) < LEAST or (time.perf_counter() < deadline and len(samples[0]) < MOST):
        for side, kept in zip(sides, samples, strict=True):
            start = time.perf_counter()
            side.run(feeds)
            kept.append(time.perf_counter() - start)
    return samples


def interval(sample: np.ndarray) -> dict[str, float | int]:
    """Median and the order statistics around it (binomial, normal approximation)."""
    ordered = np.sort(sample)
    n = ordered.size
    half = Z95 * math.sqrt(n) / 2
    low, high = max(0, math.floor(n / 2 - half)), min(n - 1, math.ceil(n / 2 + half))
    return {
        "median": float(np.median(ordered)),
        "low": float(ordered[low]),
        "high": float(ordered[high]),
        "runs": n,
    }


def speedup(before: np.ndarray, after: np.ndarray, rounds: int = 500) -> dict[str, float]:
    """Ratio of medians, with a percentile interval over resampled pairs."""
    rng = np.random.default_rng(0)
    picks = rng.integers(0, before.size, (rounds, before.size))
    ratios = np.median(before[picks], axis=1) / np.median(after[picks], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    return {"ratio": float(np.median(before) / np.median(after)), "low": float(low), "high": float(high)}
