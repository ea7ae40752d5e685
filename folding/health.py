"""Whether a batch norm's statistics can be trusted, with the numbers that say so and the remedy.

Health comes before folding: folding reproduces bad statistics faithfully. Nothing here
changes a model. `judge` looks at one layer; `gate` decides whether the job goes on.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from folding.errors import UnhealthyModel
from folding.ir.types import Array
from folding.norms.base import BatchNorm
from folding.options import FoldOptions
from folding.report import Health, HealthCode
from folding.report.norm_rows import statistics

# One channel in a thousand dead is common in trained ReLU nets; variance this far below epsilon means that
# the layer's output there is decided by epsilon alone.
DEGENERATE = 1e-3
# Statistics whose mean is off by this much of a standard deviation, or whose variance by a factor of
# two, change
# what the next nonlinearity sees; the noise of a moving average over minibatches stays below both.
LAG_SHIFT = 0.4
LAG_RATIO = 2.0
# Small shifts add up: when all of them together move the outputs by a tenth of their spread,
# each layer that differs by a hundredth has its share in it.
LAG_OUTPUT = 0.1
LAG_SHARE = 0.01
# Standard errors that a difference must exceed: a mean over n examples is uncertain by 1/sqrt(n) deviations.
SIGNIFICANT = 4.0

_RECALIBRATE = "re-estimate them from your data: --calibrate DATA.npz --recalibrate"
_UPDATES = (
    "run the update ops together with the train op (tf.control_dependencies(tf.get_collection("
    "tf.GraphKeys.UPDATE_OPS))), pass training=True while training, train again"
)


class Comparison(Protocol):
    """What a calibration measured for one layer, in units that need no further context."""

    @property
    def mean_shift(self) -> float: ...
    @property
    def variance_ratio(self) -> tuple[float, float]: ...
    @property
    def samples(self) -> int: ...
    @property
    def output_shift(self) -> float: ...


class Measured(Protocol):
    """The outcome of `folding.calibrate.run`, as far as health reads it."""

    def comparison(self, norm: BatchNorm) -> Comparison | None:
        """Old statistics against measured ones; None for a layer that was not measured."""
        ...


def assess(norm: BatchNorm, calibrated: Measured | None) -> list[Health]:
    """Every finding about one batch norm, errors first; `ok` alone where there is none."""
    arrays = statistics(norm)
    findings = [
        *_numbers(arrays),
        *_batch(norm),
        *_missing(norm),
        *_never_updated(norm, arrays),
        *_degenerate(norm, arrays),
        *_lagging(norm, calibrated),
    ]
    if findings:
        return sorted(findings, key=lambda finding: finding.severity != "error")
    return [_ok(norm, arrays)]


def gate(norms: list[BatchNorm], findings: dict[int, list[Health]], options: FoldOptions) -> None:
    """Stop the job for findings that no fold can rescue, or for any finding under `--strict`.

    findings: by `id(norm)`.
    Raises: UnhealthyModel whose code is that of the worst finding; details list every layer.
    """
    errors: list[tuple[BatchNorm, Health]] = []
    warnings: list[tuple[BatchNorm, Health]] = []
    for norm in norms:
        for finding in findings.get(id(norm), []):
            if finding.severity == "error":
                errors.append((norm, finding))
            elif finding.severity == "warning" and options.strict:
                warnings.append((norm, finding))
    stopping = errors or warnings
    if not stopping:
        return
    norm, first = stopping[0]
    others = len({id(n) for n, _ in stopping}) - 1
    raise UnhealthyModel(
        f"Batch norm {norm.name!r}: {first.evidence}"
        + (f" ({others} more layers are unhealthy.)" if others else ""),
        code=first.code.value,
        stage="health",
        layer=norm.name,
        hint=(first.remedy + (" Without --strict this is a warning." if not errors else "")).strip(),
        details={
            "codes": sorted({finding.code.value for _, finding in stopping}),
            "layers": [
                {"name": n.name, "code": f.code.value, "evidence": f.evidence} for n, f in stopping[:100]
            ],
        },
    )


def _finding(code: HealthCode, severity: str, evidence: str, remedy: str, **figures: Any) -> Health:
    return Health.model_validate(
        {"code": code, "severity": severity, "evidence": evidence, "remedy": remedy, "figures": figures}
    )


def _ok(norm: BatchNorm, arrays: dict[str, Array]) -> Health:
    mean, variance = arrays.get("moving_mean"), arrays.get("moving_variance")
    if mean is None or variance is None or not np.size(variance):
        return _finding(HealthCode.OK, "ok", "An affine map without stored statistics.", "")
    spans = f"mean {_span(mean)}, variance {_span(variance)}"
    text = f"{np.size(variance)} channels; {spans}; all finite, none negative."
    return _finding(HealthCode.OK, "ok", text, "")


def _span(array: Array) -> str:
    numbers = np.asarray(array, np.float64)
    return f"{numbers.min():.4g} to {numbers.max():.4g}"


def _numbers(arrays: dict[str, Array]) -> list[Health]:
    found = []
    for role, array in arrays.items():
        numbers = np.asarray(array, np.float64).reshape(-1)
        bad = np.flatnonzero(~np.isfinite(numbers))
        if bad.size:
            kinds = f"{int(np.isnan(numbers).sum())} NaN, {int(np.isinf(numbers).sum())} infinite"
            found.append(
                _finding(
                    HealthCode.NON_FINITE,
                    "error",
                    f"{role} holds {kinds} of {numbers.size} values (first at channel {int(bad[0])}).",
                    "training diverged before this file was saved: take an earlier checkpoint, or "
                    + _RECALIBRATE + ".",
                    role=role, count=int(bad.size), channels=bad[:16].tolist(),
                )
            )  # fmt: skip
    variance = arrays.get("moving_variance")
    if variance is not None:
        numbers = np.asarray(variance, np.float64).reshape(-1)
        negative = np.flatnonzero(numbers < 0)
        if negative.size:
            found.append(
                _finding(
                    HealthCode.NEGATIVE_VARIANCE,
                    "error",
                    f"moving_variance is negative in {negative.size} of {numbers.size} channels "
                    f"(least {numbers.min():.4g}, channel {int(numbers.argmin())}).",
                    "the file is damaged, or these are not the moving statistics: take "
                    "another checkpoint, or "
                    + _RECALIBRATE + ".",
                    count=int(negative.size), least=float(numbers.min()), channels=negative[:16].tolist(),
                )
            )  # fmt: skip
    return found


def _batch(norm: BatchNorm) -> list[Health]:
    reason = norm.why_not[0] if norm.why_not is not None else ""
    hinted = norm.hint is not None and norm.hint.batch_statistics
    if not hinted and reason not in ("batch_statistics", "training_mode"):
        return []
    stored = list(norm.hint.evidence.get("stored_statistics", ())) if norm.hint is not None else []
    held = f"; the file also holds {', '.join(stored)}" if stored else ""
    remedy = "to make it foldable, " + _RECALIBRATE
    if stored:
        remedy += (
            "; or export the model again with training=False (--feed training=false uses the stored ones)"
        )
    return [
        _finding(
            HealthCode.BATCH_STATISTICS_AT_INFERENCE,
            "warning",
            f"The inference graph normalizes with the mean and variance of each batch{held}; "
            "the output for one example depends on the others beside it.",
            remedy + ".",
            stored_statistics=stored,
        )
    ]


def _missing(norm: BatchNorm) -> list[Health]:
    if norm.hint is None or not norm.hint.missing:
        return []
    names = [norm.hint.variables.get(role, role) for role in norm.hint.missing]
    return [
        _finding(
            HealthCode.MISSING_FROM_CHECKPOINT,
            "warning",
            f"The checkpoint does not hold {', '.join(names)}; the initial values 0 and 1 stand in.",
            "save with Saver() of all variables, not of tf.trainable_variables(); or " + _RECALIBRATE + ".",
            variables=names,
        )
    ]


def _never_updated(norm: BatchNorm, arrays: dict[str, Array]) -> list[Health]:
    """Statistics that are still exactly what initialization made them."""
    mean, variance = arrays.get("moving_mean"), arrays.get("moving_variance")
    if mean is None or variance is None or not np.size(mean) or (norm.hint is not None and norm.hint.missing):
        return []
    facts = norm.hint.evidence if norm.hint is not None else {}
    starts = [(0.0, 1.0), (0.0, 0.0)]
    if "initial_mean" in facts and "initial_variance" in facts:
        starts = [(float(facts["initial_mean"]), float(facts["initial_variance"]))]
    start = next((s for s in starts if np.all(mean == s[0]) and np.all(variance == s[1])), None)
    if start is None:
        return []
    evidence = (
        f"moving_mean is exactly {start[0]:g} and moving_variance exactly {start[1]:g} in all "
        f"{np.size(mean)} channels, "
        "as initialization left them."
    )
    updates, remedy = facts.get("update_ops"), f"{_UPDATES}; or {_RECALIBRATE}."
    if updates == 0 and not facts.get("batch_path", True):
        evidence += (
            " The graph has no update ops for them and never uses batch statistics, so "
            "training used these values "
            "as well: inference is as trained, the layer is a plain affine map."
        )
        remedy = "nothing, if the model performs as it did in training; to normalize really, " + remedy
    elif updates:
        evidence += f" The graph has {updates} update op(s) for them (UPDATE_OPS); they never ran."
    elif updates == 0:
        evidence += " The graph has no update ops (UPDATE_OPS) for them."
    return [
        _finding(
            HealthCode.NEVER_UPDATED, "warning", evidence, remedy,
            initial=list(start), update_ops=updates,
            used_in_training=bool(updates == 0 and not facts.get("batch_path", True)),
        )
    ]  # fmt: skip


def _degenerate(norm: BatchNorm, arrays: dict[str, Array]) -> list[Health]:
    variance = arrays.get("moving_variance")
    if variance is None or norm.epsilon is None:
        return []
    numbers = np.asarray(variance, np.float64).reshape(-1)
    tiny = np.flatnonzero((numbers >= 0) & (numbers <= DEGENERATE * norm.epsilon))
    mean = arrays.get("moving_mean")
    untouched = mean is not None and not np.any(mean) and tiny.size == numbers.size
    if not tiny.size or untouched:
        return []
    return [
        _finding(
            HealthCode.DEGENERATE_VARIANCE,
            "warning",
            f"moving_variance is below {DEGENERATE:g} of epsilon ({norm.epsilon:g}) in "
            f"{tiny.size} of {numbers.size} "
            f"channels (least {numbers.min():.3g}): a deviation there is amplified up to "
            f"{1 / np.sqrt(norm.epsilon):.3g} times.",
            "these channels were constant in training (dead units): fine if they are constant "
            "in use too; else "
            + _RECALIBRATE + ".",
            count=int(tiny.size), least=float(numbers.min()), channels=tiny[:16].tolist(),
        )
    ]  # fmt: skip


def _lagging(norm: BatchNorm, calibrated: Measured | None) -> list[Health]:
    compared = calibrated.comparison(norm) if calibrated is not None else None
    if compared is None:
        return []
    low, high = compared.variance_ratio
    noise = SIGNIFICANT / np.sqrt(compared.samples)
    shifted = compared.mean_shift > max(LAG_SHIFT, noise)
    scaled = max(high, 1 / low if low > 0 else np.inf) > max(LAG_RATIO, 1 + noise)
    together = compared.output_shift > max(LAG_OUTPUT, noise) and (
        compared.mean_shift > LAG_SHARE or max(high, 1 / low if low > 0 else np.inf) > 1 + LAG_SHARE
    )
    if not shifted and not scaled and not together:
        return []
    return [
        _finding(
            HealthCode.LAGGING,
            "warning",
            f"On {compared.samples} calibration examples the mean is up to "
            f"{compared.mean_shift:.3g} standard "
            f"deviations away and the variance {low:.3g} to {high:.3g} times the stored one; "
            "with the measured "
            f"statistics the outputs move by {compared.output_shift:.3g} of their spread.",
            "the moving averages lag behind the weights (or the data is of another kind): "
            "--recalibrate takes the "
            "measured ones; in training, lower the momentum or run more steps.",
            mean_shift=compared.mean_shift, variance_ratio=[low, high], samples=compared.samples,
        )
    ]  # fmt: skip
