"""Explain a model that is right in training and wrong at inference: what was measured, which line to change.

One entry per kind of finding, with the layers concerned. The line is spelled for the library that made the
layer, which is told from the framework, the spelling and the variables' names (`LIBRARIES`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from folding.report.code_changes import CHANGES, LIBRARIES
from folding.report.records import CodeChange, Diagnosis, Health, HealthCode, NormReport

_EXPLAINED = (
    HealthCode.NEVER_UPDATED,
    HealthCode.MISSING_FROM_CHECKPOINT,
    HealthCode.BATCH_STATISTICS_AT_INFERENCE,
    HealthCode.LAGGING,
)
# Training used the initial values as well: only the training program can be meant to differ.
_NEVER_NORMALIZED = "never_normalized"
TITLES = {
    _NEVER_NORMALIZED: "The layer never normalized, neither in training nor at inference",
    HealthCode.NEVER_UPDATED: "The moving statistics were never updated",
    HealthCode.MISSING_FROM_CHECKPOINT: "The moving statistics were not saved",
    HealthCode.BATCH_STATISTICS_AT_INFERENCE: "Inference normalizes with the statistics of each batch",
    HealthCode.LAGGING: "The moving statistics lag behind the weights",
}
MEANINGS = {
    _NEVER_NORMALIZED: (
        "The layer was built without its training argument, so that training normalized with the "
        "initial mean 0 and variance 1, as inference does. Inference is as trained; the layer is a scale and "
        "a shift."
    ),
    HealthCode.NEVER_UPDATED: (
        "Training normalized with the mean and variance of each batch. Inference normalizes with the moving "
        "statistics, which still are the initial mean 0 and variance 1: the layers behind get inputs "
        "that they never saw in training. The weights are good; the statistics are not."
    ),
    HealthCode.MISSING_FROM_CHECKPOINT: (
        "The program in training had moving statistics, and the file holds only what can be trained. After a "
        "restore the layer normalizes with its initial mean 0 and variance 1."
    ),
    HealthCode.BATCH_STATISTICS_AT_INFERENCE: (
        "The result for one example depends on the others in its batch; a batch of one is normalized by "
        "itself. There is no constant to fold, so the layer stays."
    ),
    HealthCode.LAGGING: (
        "Training normalized with the statistics of each batch; the moving statistics are an average over "
        "past steps, and the weights moved on. The error of inference is the distance between the two."
    ),
}


def diagnose(
    norms: Sequence[NormReport], framework: str, calibration: dict[str, Any] | None
) -> list[Diagnosis]:
    """Return one entry for each kind of finding that sets inference apart from training, worst first."""
    return [
        Diagnosis(
            code=HealthCode.NEVER_UPDATED if key == _NEVER_NORMALIZED else HealthCode(key),
            title=TITLES[key],
            layers=[norm.name for norm, _ in found],
            measured=" ".join([found[0][1].evidence, *_data(found, calibration)]),
            meaning=MEANINGS[key],
            changes=_changes(key, [norm for norm, _ in found], framework),
        )
        for key, found in _grouped(norms)
    ]


def _grouped(norms: Sequence[NormReport]) -> Iterator[tuple[str, list[tuple[NormReport, Health]]]]:
    kinds: dict[str, list[tuple[NormReport, Health]]] = {code: [] for code in _EXPLAINED}
    kinds[_NEVER_NORMALIZED] = []
    for norm in norms:
        for finding in norm.health:
            if finding.code in _EXPLAINED:
                plain = finding.figures.get("used_in_training") and finding.code is HealthCode.NEVER_UPDATED
                kinds[_NEVER_NORMALIZED if plain else finding.code].append((norm, finding))
    yield from ((key, found) for key, found in kinds.items() if found)


def _data(found: list[tuple[NormReport, Health]], calibration: dict[str, Any] | None) -> Iterator[str]:
    """What the calibration data says of these layers, where it was given."""
    if calibration is None or found[0][1].code is HealthCode.LAGGING:  # its evidence says it already
        return
    names = {norm.name for norm, _ in found}
    rows = [row for row in calibration.get("layers", ()) if row.get("name") in names and row.get("measured")]
    if rows:
        first = rows[0]
        yield (
            f"On {calibration.get('samples')} calibration examples {first['name']} has a mean of "
            f"{_span(first['mean'])} and a variance of {_span(first['variance'])}."
        )
    moved = [
        row["relative_rms"] for row in (calibration.get("outputs") or {}).values() if "relative_rms" in row
    ]
    if rows and moved and not calibration.get("applied"):
        yield f"With these statistics the outputs move by {max(moved):.3g} of their spread."


def _span(numbers: Sequence[float]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"


def library(norm: NormReport, framework: str) -> str | None:
    """Return the key of `CHANGES` for the library that made the layer; None where nothing tells it."""
    stored = norm.stats.get("moving_mean")
    text = f"{framework}|{norm.spelling}|{(stored.variable if stored else None) or norm.name}"
    return next((key for key, pattern in LIBRARIES if re.search(pattern, text)), None)


def _changes(key: str, norms: Sequence[NormReport], framework: str) -> list[CodeChange]:
    """One change per library, with the first layer of each in the place of its name."""
    firsts: dict[str, NormReport] = {}
    for norm in norms:
        if (name := library(norm, framework)) is not None:
            firsts.setdefault(name, norm)
    found = []
    for name, norm in firsts.items():
        for where, before, after in CHANGES[name][str(key)]:
            values = {"name": _quoted(norm.name), "momentum": f"{norm.momentum or 0.99:g}"}
            found.append(
                CodeChange(where=where, before=_filled(before, values), after=_filled(after, values))
            )
    return found


def _quoted(name: str) -> str:
    """The layer's own name as a Python string: names come from the model."""
    return repr("".join(c for c in name.rsplit(":", 1)[0] if c.isprintable())[:80])


def _filled(text: str, values: dict[str, str]) -> str:
    for key, value in values.items():
        text = text.replace("{" + key + "}", value)
    return text
