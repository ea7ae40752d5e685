"""How much a model's own float arithmetic moves its outputs.

A fold computes the same function in another order and rounds each weight once more. Its equals are the same
model with every weight and every input moved to a neighbouring float (one unit in the last place, random
direction): runs of that kind show what an equivalent execution may change, conditioning and depth included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from folding.ir.types import Feeds

INTEGER_VIEW = {2: np.int16, 4: np.int32, 8: np.int64}
BLOCK = 1 << 20  # elements moved together: what is needed beside the copy stays in the processor's cache


def neighbour(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each finite nonzero element moved by one unit in the last place, up or down at random.

    Zeros stay: a folded zero weight is a zero weight. dtype and shape are kept.
    """
    if array.dtype.kind != "f" or array.size == 0 or array.dtype.itemsize not in INTEGER_VIEW:
        return array
    moved = np.array(array, order="C")
    flat = moved.reshape(-1)
    for start in range(0, flat.size, BLOCK):
        _move(flat[start : start + BLOCK], rng)
    return moved


def _move(block: np.ndarray, rng: np.random.Generator) -> None:
    """Move the elements of a one-dimensional array in place."""
    stored, count = block.copy(), block.size
    bits = np.unpackbits(np.frombuffer(rng.bytes((count + 7) // 8), np.uint8), count=count)
    step = bits.view(np.int8) * np.int8(2) - np.int8(1)
    step *= stored != 0
    integers = block.view(INTEGER_VIEW[block.dtype.itemsize])
    integers += step
    if not (np.isfinite(stored).all() and np.isfinite(block).all()):  # next to infinity is the largest number
        np.copyto(block, stored, where=~(np.isfinite(stored) & np.isfinite(block)))


def neighbours(feeds: Feeds, rng: np.random.Generator) -> Feeds:
    """`neighbour` of every array."""
    return {name: neighbour(array, rng) for name, array in feeds.items()}


def unit_roundoff(dtype: Any) -> float:
    """u of a float dtype (2**-24 for float32); 0 for everything that is not a float."""
    dtype = np.dtype(dtype)
    return float(np.finfo(dtype).eps) / 2 if dtype.kind == "f" else 0.0


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """max |a - b| over elements that are finite on both sides; 0 where there are none."""
    if a.shape != b.shape or a.dtype.kind not in "fiub":
        return 0.0
    with np.errstate(all="ignore"):
        gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
    gap = gap[np.isfinite(gap)]
    return float(gap.max()) if gap.size else 0.0


def scale_of(array: np.ndarray) -> float:
    """max |finite element|; 0 for none."""
    if array.dtype.kind not in "fiub" or array.size == 0:
        return 0.0
    with np.errstate(all="ignore"):
        size = np.abs(array.astype(np.float64, copy=False))
    size = size[np.isfinite(size)] if not np.isfinite(size).all() else size
    return float(size.max()) if size.size else 0.0


@dataclass
class Noise:
    """Measured noise of one output: per probe, and pooled over all probes.

    samples: probe -> absolute distances between equivalent runs. scales: probe -> max |reference|.
    unstable: probe -> mask of elements of an integer or boolean output that equivalent runs disagree on.
    """

    dtype: np.dtype[np.generic]
    depth: int
    samples: dict[str, list[float]] = field(default_factory=dict)
    scales: dict[str, float] = field(default_factory=dict)
    unstable: dict[str, np.ndarray] = field(default_factory=dict)
    float64_distance: dict[str, float] = field(default_factory=dict)

    def add(self, probe: str, base: np.ndarray, other: np.ndarray) -> None:
        """One more equivalent run of `probe`."""
        self.samples.setdefault(probe, []).append(distance(base, other))
        if base.dtype.kind in "iubOSU" and base.shape == other.shape:
            self.unstable[probe] = self.unstable.get(probe, np.zeros(base.shape, bool)) | (base != other)

    @property
    def pooled(self) -> float:
        """Root mean square over probes of noise relative to the output's scale."""
        ratios = [
            max(found) / self.scales[probe]
            for probe, found in self.samples.items()
            if found and self.scales.get(probe, 0) > 0
        ]
        return math.sqrt(sum(r * r for r in ratios) / len(ratios)) if ratios else 0.0

    @property
    def floor(self) -> float:
        """Relative rounding that any execution makes: u * sqrt(1 + depth)."""
        return unit_roundoff(self.dtype) * math.sqrt(1 + self.depth)

    def of(self, probe: str) -> float:
        """Absolute noise of one probe: the largest of measured, pooled and floor."""
        scale = self.scales.get(probe, 0.0)
        measured = max(self.samples.get(probe) or [0.0])
        return max(measured, self.float64_distance.get(probe, 0.0), max(self.pooled, self.floor) * scale)
