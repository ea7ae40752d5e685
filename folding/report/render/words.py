"""Numbers and records of a report in words, shared by all forms."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence

from folding.report import (
    HeadlineState,
    Health,
    NormReport,
    OutputComparison,
    Recalibrated,
    Report,
    TensorInfo,
    Verdict,
    VerificationRow,
)

MARKS = {
    HeadlineState.HEALTHY: "✓",
    HeadlineState.UNHEALTHY: "!",
    HeadlineState.NOT_EQUIVALENT: "✕",
    HeadlineState.NOT_SHOWN: "?",
}
STATUS_MARKS = {"pass": "✓", "fail": "✕", "reported": "·", "unavailable": "–", "not_compared": "–"}


def number(value: float | None) -> str:
    """Three significant digits; words for what is not finite."""
    if value is None:
        return "–"
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "infinite"
    return f"{value:.3g}"


def tensor(info: TensorInfo) -> str:
    """`name: float32 [N, 3, 224, 224]`."""
    shape = "any shape" if info.shape is None else "[" + ", ".join(str(d or "?") for d in info.shape) + "]"
    return f"{info.name}: {info.dtype} {shape}"


def folded(report: Report) -> tuple[int, int]:
    """(folded, all) batch norms."""
    return sum(norm.decision == "folded" for norm in report.batch_norms), len(report.batch_norms)


def findings(report: Report) -> Iterator[tuple[NormReport, Health]]:
    """Everything about the statistics that is not ok."""
    for norm in report.batch_norms:
        for health in norm.health:
            if health.severity != "ok":
                yield norm, health


def kept(report: Report) -> Iterator[NormReport]:
    """Batch norms that stayed, whole or half."""
    yield from (norm for norm in report.batch_norms if norm.decision == "kept" or norm.reason)


def worst(row: VerificationRow) -> OutputComparison | None:
    """The output that says most about a row: a failed one first, then the largest relative difference."""
    return max(row.outputs, key=lambda o: (not o.passed, o.max_rel), default=None)


def gathered(rows: Sequence[VerificationRow]) -> list[VerificationRow]:
    """The rows as they are shown: a provider that is not there is one row, not one for each reference."""
    shown: list[VerificationRow] = []
    told: set[str] = set()
    for row in rows:
        if row.status == "unavailable" and not row.outputs:
            if row.detail in told:
                continue
            told.add(row.detail)
            row = row.model_copy(update={"reference": "everything", "optimization_level": "any"})
        shown.append(row)
    return shown


def row_words(row: VerificationRow) -> str:
    """One line about a row."""
    chosen = worst(row)
    parts = [row.detail] if row.detail else []
    if chosen is not None:
        parts.append(
            f"{chosen.name!r} differs by {number(chosen.max_abs)} ({number(chosen.max_rel)} of its scale), "
            f"allowed {number(chosen.tolerance.atol)} + {number(chosen.tolerance.rtol)} x |reference|"
        )
    if not row.judged:
        parts.append("not judged")
    return "; ".join(parts)


def certificates(report: Report) -> tuple[int, int, float]:
    """(that hold, all, largest rounding as a share of its bound)."""
    found = [norm.certificate for norm in report.batch_norms if norm.certificate is not None]
    share = max((c.max_relative_rounding / c.bound for c in found if c.bound), default=0.0)
    return sum(c.holds for c in found), len(found), share


def some(names: Sequence[str], most: int = 6) -> str:
    """The first names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def recalibrated(held: Recalibrated) -> str:
    """One sentence about the second artifact."""
    if held.verdict is Verdict.PASS:
        return (
            f"{held.file} holds the statistics of your calibration data and is equivalent to the source with "
            f"these statistics; use it where the answers of training are wanted ({held.artifact.digest})."
        )
    return f"An artifact with the statistics of your data was not shown to be right: {held.summary}"


def command(report: Report) -> str:
    """The command that makes this artifact and this report again."""
    words = ["bnfold", "fold", "MODEL", "-o", "OUT.onnx"]
    single = {"signature", "step", "missing_stats", "opset", "rtol", "atol", "seed"}
    flags = {"use_ema", "recalibrate", "freeze_inputs", "strict", "latency", "ort_format"}
    lists = {
        "uint8_inputs": "--uint8-input",
        "outputs": "--output",
        "tags": "--tag",
        "providers": "--provider",
        "require": "--require",
    }
    for name, value in report.options.items():
        option = "--" + name.replace("_", "-")
        if name in flags and value:
            words.append(option)
        elif name in single and value is not None:
            words += [option, str(value)]
        elif name in lists:
            words += [part for item in value for part in (lists[name], str(item))]
        elif name in ("input_mean", "input_std"):
            numbers = {key: item if isinstance(item, list) else [item] for key, item in value.items()}
            pairs = (f"{key}={','.join(map(str, item))}" for key, item in numbers.items())
            words += [part for pair in pairs for part in (option, pair)]
        elif name == "feeds":
            words += [part for key, item in value.items() for part in ("--feed", f"{key}={item}")]
        elif name == "inputs":
            shapes = ((key, ",".join(str(d or "?") for d in dims)) for key, dims in value.items())
            words += [part for key, dims in shapes for part in ("--input", f"{key}={dims}" if dims else key)]
    if report.calibration is not None:
        words += ["--calibrate", "DATA.npz"]
    if any(probe.get("name") == "user" for probe in report.probes):
        words += ["--probe", "PROBE.npz"]
    return "".join(c if c.isprintable() else "?" for c in shlex.join(words))
