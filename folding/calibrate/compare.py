"""How far measured and stored statistics lie apart, and what that does to the outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from folding.calibrate.measure import Moments
from folding.norms.base import BatchNorm


@dataclass(frozen=True)
class Compared:
    """Stored against measured statistics of one layer.

    mean_shift: largest |measured - stored| / sqrt(measured variance + epsilon) over the channels.
    variance_ratio: smallest and largest (measured + epsilon) / (stored + epsilon).
    output_shift: how far the model's outputs move, RMS over their standard deviation, when all are replaced.
    """

    mean_shift: float
    variance_ratio: tuple[float, float]
    samples: int
    output_shift: float


def compare(norm: BatchNorm, found: Moments, samples: int, output_shift: float) -> Compared | None:
    """None where there is nothing stored to compare with, or batch statistics are used."""
    if norm.moving_mean is None or norm.moving_variance is None or (norm.hint and norm.hint.batch_statistics):
        return None
    epsilon = norm.epsilon or 0.0
    mean = np.asarray(norm.moving_mean, np.float64).reshape(-1)
    variance = np.asarray(norm.moving_variance, np.float64).reshape(-1)
    if mean.shape != found.mean.shape or variance.shape != found.variance.shape:
        return None
    with np.errstate(all="ignore"):
        shift = np.abs(found.mean - mean) / np.sqrt(found.variance + epsilon)
        ratio = (found.variance + epsilon) / (variance + epsilon)
    return Compared(float(np.max(shift)), (float(np.min(ratio)), float(np.max(ratio))), samples, output_shift)


def table_row(norm: BatchNorm, found: Moments, compared: Compared | None) -> dict[str, Any]:
    """One layer of the report."""
    row: dict[str, Any] = {
        "name": norm.name,
        "measured": True,
        "mean": _numbers(found.mean),
        "variance": _numbers(found.variance),
    }
    if norm.moving_mean is not None and norm.moving_variance is not None:
        row["stored_mean"] = _numbers(np.asarray(norm.moving_mean))
        row["stored_variance"] = _numbers(np.asarray(norm.moving_variance))
    if compared is not None:
        row["mean_shift"] = compared.mean_shift
        row["variance_ratio"] = list(compared.variance_ratio)
    return row


def _numbers(array: np.ndarray) -> list[float]:
    """The first channels: enough for a table; the artifact holds them all."""
    return [float(number) for number in array.reshape(-1)[:64].astype(np.float64)]


def output_changes(
    model: ir.Model, before: dict[str, np.ndarray], after: dict[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """By output of a float type: how far it moved, alone and over its standard deviation."""
    changes = {}
    for name, old in before.items():
        if old.dtype.kind != "f":
            continue
        difference = np.asarray(after[name], np.float64) - np.asarray(old, np.float64)
        spread = float(np.std(np.asarray(after[name], np.float64)))
        rms = float(np.sqrt(np.mean(difference**2))) if difference.size else 0.0
        changes[name] = {
            "max_abs": float(np.max(np.abs(difference))) if difference.size else 0.0,
            "rms": rms,
            "relative_rms": rms / spread if spread > 0 else 0.0,
        }
    return changes
