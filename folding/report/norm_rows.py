"""Numbers about a batch norm for people: arrays in summary, and the row of the report."""

from __future__ import annotations

import numpy as np

from folding.ir.types import Array
from folding.norms.base import BatchNorm
from folding.report import ArrayStats, Health, NormReport, Preprocessing
from folding.rules.base import Decision

ROLES = ("moving_mean", "moving_variance", "gamma", "beta")
BINS = 24  # readable as a small chart; 53 layers x 4 roles x 24 counts stay below 40 kB of JSON


def array_stats(array: Array, variable: str | None = None) -> ArrayStats:
    """Minimum, maximum, mean and histogram over the finite elements, in float64."""
    flat = np.asarray(array).reshape(-1)
    numbers = flat.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    stats = ArrayStats(
        variable=variable,
        dtype=str(flat.dtype),
        size=int(flat.size),
        non_finite=int(numbers.size - finite.size),
    )
    if finite.size:
        stats.min, stats.max = float(finite.min()), float(finite.max())
        with np.errstate(over="ignore"):
            stats.mean = float(np.mean(finite))
        stats.histogram = _histogram(finite)
    return stats


def _histogram(finite: np.ndarray) -> list[int]:
    low, high = float(finite.min()), float(finite.max())
    if low == high or not np.isfinite(high - low):
        return [int(finite.size)]
    try:
        counts, _ = np.histogram(finite, bins=BINS, range=(low, high))
    except ValueError:  # a range narrower than BINS floats
        return [int(finite.size)]
    return [int(count) for count in counts]


def amplification(norm: BatchNorm) -> Array | None:
    """gamma / sqrt(moving_variance + epsilon) per channel, float64; None where the variance is unknown."""
    if norm.moving_variance is None:
        if norm.affine is None:
            return None
        return np.asarray(norm.affine.scale)
    variance = np.asarray(norm.moving_variance, np.float64)
    gamma = 1.0 if norm.gamma is None else np.asarray(norm.gamma, np.float64)
    with np.errstate(all="ignore"):
        return np.asarray(gamma / np.sqrt(variance + (norm.epsilon or 0.0)))


def statistics(norm: BatchNorm) -> dict[str, Array]:
    """Raw arrays by role: from the graph, or from the source where the graph has no trace of them."""
    arrays = dict(norm.hint.arrays) if norm.hint is not None else {}
    arrays.update({role: value for role in ROLES if (value := getattr(norm, role)) is not None})
    return arrays


def norm_report(decision: Decision, findings: list[Health]) -> NormReport:
    """The report's row of one batch norm."""
    norm = decision.norm
    arrays = statistics(norm)
    scale = amplification(norm)
    channels = next((int(np.asarray(a).size) for a in arrays.values()), None)
    if channels is None and norm.affine is not None:
        channels = int(norm.affine.scale.size)
    return NormReport(
        name=norm.name,
        spelling=norm.spelling,
        channels=channels,
        epsilon=_epsilon(norm),
        momentum=norm.hint.momentum if norm.hint is not None else None,
        channel_axis=norm.channel_axis,
        health=findings,
        stats={role: array_stats(arrays[role], _variable(norm, role)) for role in ROLES if role in arrays},
        amplification=None if scale is None else array_stats(scale),
        decision="folded" if decision.folded else "kept",
        into=list(decision.into),
        direction=decision.direction,
        reason=decision.reason,
        detail=decision.detail,
        certificate=decision.certificate,
    )


def preprocessing_report(decision: Decision) -> Preprocessing:
    """Return the report's row of an input's preprocessing."""
    return Preprocessing(
        input=decision.norm.name,
        decision="folded" if decision.folded else "kept",
        into=list(decision.into),
        reason=decision.reason,
        detail=decision.detail,
        certificate=decision.certificate,
    )


def preprocessing_note(decision: Decision) -> str:
    """Return the same in one sentence."""
    name, into = decision.norm.name, ", ".join(decision.into)
    if decision.folded and decision.reason is None:
        return f"the preprocessing of input {name!r} went into {into or 'nothing: it changes no value'}"
    kept = f"stays as nodes ({decision.reason}: {decision.detail})"
    if decision.folded:
        return f"the scale of input {name!r}'s preprocessing went into {into}; its shift {kept}"
    return f"the preprocessing of input {name!r} {kept}"


def _epsilon(norm: BatchNorm) -> float | None:
    """As its author wrote it: graphs store 0.001 as the float32 nearest to it."""
    if norm.epsilon is None or not np.isfinite(norm.epsilon):
        return norm.epsilon
    single = np.float32(norm.epsilon)
    return float(str(single)) if float(single) == norm.epsilon else norm.epsilon


def _variable(norm: BatchNorm, role: str) -> str | None:
    if norm.hint is not None and role in norm.hint.variables:
        return norm.hint.variables[role]
    return norm.variables.get(role)
