"""Certificates: how near the stored weights are to the exact ones, in closed form.

Before and after a fold, a site is affine in the same input: y = W x + b against y' = W' x + b'. With exact
W' and b' (float64) the two are equal, so all that a fold can lose is the one rounding of W' and b' to their
stored dtype. For round-to-nearest, |stored - exact| <= u |exact| with u the unit roundoff
(2**-24 float32, 2**-11 float16, 2**-8 bfloat16, 2**-53 float64), unless the number leaves the dtype's range:

    overflow      exact is finite, stored is not: never accepted
    underflow     stored is subnormal or zero and misses u: accepted below a share u of its channel (L1)
    cancellation  a bias element smaller than 2**-26 of the terms it was summed from: half its float64 digits
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from folding.ir.types import Array, Float64Array
from folding.report import Certificate

UNIT_ROUNDOFF = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
_BLOCK = 1 << 16  # elements per block: two float64 blocks stay in the second-level cache
_CANCELLED = 2.0**-26


@dataclass
class Rounding:
    """What one cast did, added up over arrays."""

    dtype: str
    max_relative: float = 0.0
    overflow: int = 0
    underflow: int = 0
    cancellation: int = 0
    lost: float = 0.0  # largest share of a channel's weight (L1) that underflow took

    def add(self, other: Rounding) -> None:
        """Accumulate."""
        self.max_relative = max(self.max_relative, other.max_relative)
        self.overflow += other.overflow
        self.underflow += other.underflow
        self.cancellation += other.cancellation
        self.lost = max(self.lost, other.lost)


def unit_roundoff(dtype: str) -> float:
    """Unit roundoff by dtype name; float64's where the dtype is none of ours."""
    return UNIT_ROUNDOFF.get(dtype, 2.0**-53)


def tiniest_normal(dtype: np.dtype[np.generic]) -> float:
    """Smallest positive normal number."""
    return float(ml_dtypes.finfo(dtype).smallest_normal)  # type: ignore[no-untyped-call]


def measure(exact: Float64Array, stored: Array) -> Rounding:
    """Compare arrays of equal shape. Underflowed elements are judged by their channel, not by themselves."""
    result = Rounding(stored.dtype.name)
    tiny = tiniest_normal(stored.dtype)
    flat_exact, flat_stored = exact.reshape(-1), stored.reshape(-1)
    for start in range(0, flat_exact.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        _measure_block(flat_exact[block], flat_stored[block].astype(np.float64), tiny, result)
    if result.underflow:
        result.lost = _lost_share(exact, stored, tiny)
    return result


def _measure_block(exact: Float64Array, stored: Float64Array, tiny: float, into: Rounding) -> None:
    size = np.abs(exact)
    with np.errstate(all="ignore"):
        error = np.abs(stored - exact) / size
    low, high = float(size.min(initial=np.inf)), float(error.max(initial=0.0))
    if low >= tiny and np.isfinite(high):
        into.max_relative = max(into.max_relative, high)
        return
    overflow = np.isfinite(exact) & ~np.isfinite(stored)
    small = (size < tiny) & (size > 0)
    into.overflow += int(overflow.sum())
    into.underflow += int((small & (error > unit_roundoff(into.dtype))).sum())
    normal = error[(size >= tiny) & ~overflow]
    into.max_relative = max(into.max_relative, float(normal.max(initial=0.0)))


def _lost_share(exact: Float64Array, stored: Array, tiny: float) -> float:
    rows_exact = exact.reshape(exact.shape[0], -1) if exact.ndim else exact.reshape(1, 1)
    rows_stored = stored.astype(np.float64).reshape(rows_exact.shape)
    small = np.abs(rows_exact) < tiny
    error = np.where(small, np.abs(rows_stored - rows_exact), 0.0).sum(axis=1)
    total = np.abs(rows_exact).sum(axis=1)
    share = np.divide(error, total, out=np.zeros_like(error), where=total > 0)
    return float(share.max(initial=0.0))


def cancelled(result: Float64Array, terms: Iterable[Float64Array]) -> int:
    """How many elements of `result` are what cancellation left of the `terms` they are the sum of."""
    size = sum((np.abs(term) for term in terms), np.zeros(()))
    return int(np.sum((np.abs(result) < _CANCELLED * size) & (size > 0)))


def certificate(rounding: Rounding, detail: str = "") -> Certificate:
    """The report's form. It holds when nothing overflowed and every rounding is within the dtype's own.

    bfloat16 is reached by way of float32, whose rounding comes on top: hence the factor.
    """
    bound = unit_roundoff(rounding.dtype)
    holds = (
        rounding.overflow == 0 and rounding.max_relative <= bound * (1 + 2.0**-14) and rounding.lost <= bound
    )
    return Certificate(
        holds=holds,
        max_relative_rounding=rounding.max_relative,
        bound=bound,
        overflow=rounding.overflow,
        underflow=rounding.underflow,
        cancellation=rounding.cancellation,
        detail=detail,
    )


def merge(certificates: Iterable[Certificate]) -> Certificate | None:
    """One certificate for several arrays or sites; None for none."""
    listed = list(certificates)
    if not listed:
        return None
    worst = max(listed, key=lambda item: item.max_relative_rounding / item.bound)
    return Certificate(
        holds=all(item.holds for item in listed),
        max_relative_rounding=worst.max_relative_rounding,
        bound=worst.bound,
        overflow=sum(item.overflow for item in listed),
        underflow=sum(item.underflow for item in listed),
        cancellation=sum(item.cancellation for item in listed),
        detail="; ".join(dict.fromkeys(item.detail for item in listed if item.detail)),
    )
