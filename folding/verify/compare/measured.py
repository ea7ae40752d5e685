"""Segments judged by measured noise, where no bound is known or the bound is too loose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from folding.report import OutputComparison, ToleranceReport
from folding.verify.model import Loaded
from folding.verify.noise.tolerance import GUARD
from folding.verify.noise.ulp_noise import unit_roundoff

RELIABLE = 18  # draws after which the largest of them is no smaller than half its usual size, but once in 1e7
DISCONTINUOUS = frozenset(
    {
        "Round",
        "Floor",
        "Ceil",
        "Sign",
        "QuantizeLinear",
        "DynamicQuantizeLinear",
        "Greater",
        "Less",
        "Equal",
        "GreaterOrEqual",
        "LessOrEqual",
        "ArgMax",
        "ArgMin",
        "TopK",
        "Mod",
        "NonMaxSuppression",
        "Hardmax",
    }
)
FLIPS = 1e-3  # share of elements that may sit on the other side of a rounding step in such a model


def judge(
    name: str, reference: np.ndarray, candidate: np.ndarray, noise: Sequence[np.ndarray], wobbly: bool
) -> OutputComparison:
    """Compare by slices over (axis 1, last axis), each against its own noise.

    A slice's limit is GUARD times the largest of: its noise in the equivalent runs; its scale times the
    noise of all slices relative to theirs, or 2 u; and a share of the noise of all slices together: half of
    it where a slice has too few elements for its own noise to be reliable.
    """
    gaps = slices(gap(candidate, reference))
    scale = slices(np.where(np.isfinite(reference), reference, np.zeros((), reference.dtype)))
    measured = np.zeros_like(scale)
    for sample in noise:
        measured = np.maximum(measured, slices(gap(sample, reference)))
    together, typical = root_mean_square(measured), root_mean_square(scale)
    pooled = together / typical if typical else 0.0
    draws = len(noise) * reference.size / max(1, scale.size)
    share = 0.5 if draws < RELIABLE else 0.02
    floor = max(pooled, 2 * unit_roundoff(reference.dtype))
    with np.errstate(all="ignore"):
        limit = GUARD * np.maximum(np.maximum(measured, floor * scale), share * together)
        limit = np.where(np.isfinite(limit), limit, 0.0)
        excess = np.where(gaps == 0, 0.0, gaps / np.maximum(limit, 1e-300))
    worst = int(np.argmax(excess))
    passed = bool(excess.max() <= 1)
    if not passed and wobbly:
        passed = flips(reference, candidate, limit) <= FLIPS
    top = float(scale.max())
    # Shown: the slice furthest past its limit, or, where none is past it, the one that differs most.
    shown = int(np.argmax(gaps)) if passed and np.isfinite(gaps).all() else worst
    index = np.unravel_index(shown, gaps.shape)
    largest = float(gaps.ravel()[shown])
    return OutputComparison(
        name=name,
        max_abs=largest,
        max_rel=largest / top if top else 0.0,
        worst_index=[int(i) for i in index],
        worst_probe="layer by layer",
        tolerance=ToleranceReport(
            rtol=0.0,
            atol=float(limit.ravel()[shown]),
            why=f"{GUARD:g} x the noise of this segment alone, in this (axis 1, last axis) slice",
        ),
        passed=passed,
    )


def root_mean_square(values: np.ndarray) -> float:
    """Over the finite elements, in float64; 0 for none."""
    finite = np.abs(values[np.isfinite(values)].astype(np.float64))
    largest = float(finite.max(initial=0.0))  # divided by first: squares of float64 overflow from 1e154
    return largest * float(np.sqrt(np.mean(np.square(finite / largest)))) if largest else 0.0


def gap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a - b, at least in float32; 0 where both are the same infinity or both NaN."""
    with np.errstate(all="ignore"):
        found: np.ndarray = np.subtract(a, b, dtype=np.result_type(a, np.float32))
    if not np.isfinite(found).all():
        found[(a == b) | (np.isnan(a) & np.isnan(b))] = 0
    return found


def slices(array: np.ndarray) -> np.ndarray:
    """max |x| over all axes but axis 1 and the last; NaN counts as infinite, shared infinities as none."""
    with np.errstate(all="ignore"):
        size = np.abs(array)
    if array.ndim < 2:
        flat: np.ndarray = np.nan_to_num(np.atleast_1d(size), nan=np.inf)
        return flat
    axes = tuple(i for i in range(array.ndim) if i not in (1, array.ndim - 1))
    found: np.ndarray = np.nan_to_num(size.max(axis=axes) if axes else size, nan=np.inf)
    return found


def flips(reference: np.ndarray, candidate: np.ndarray, limit: np.ndarray) -> float:
    """Share of elements beyond the limit of their slice."""
    kept = (1, reference.ndim - 1) if reference.ndim > 1 else (0,)
    shape = [size if i in kept else 1 for i, size in enumerate(reference.shape)]
    return float(np.mean(np.abs(gap(candidate, reference)) > limit.reshape(shape)))


def jumping(source: Loaded, cuts: set[str]) -> set[str]:
    """Values with a rounding or a decision on live data between them and the cuts before them."""
    live = {value.name for value in source.inputs}
    jumps: set[str] = set()
    for node in source.proto.graph.node:
        if node.op_type == "Shape" or not live.intersection(node.input):
            continue
        live.update(node.output)
        if node.op_type in DISCONTINUOUS or (jumps - cuts).intersection(node.input):
            jumps.update(node.output)
    return jumps
