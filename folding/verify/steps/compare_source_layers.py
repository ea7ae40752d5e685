"""Each operator of an integer runtime against the unfolded graph, fed the runtime's own values.

    source runtime:  q1 -> kernel -> q2          unfolded graph:  q1 -> DequantizeLinear ... -> real -> q2'
    |q2 - clip(real / scale + zero_point)| <= steps

Integer kernels round after every operator, so end to end two correct implementations drift apart without
bound. Operator by operator they may not: both read the same integers, and the kernel's rounding has a bound
in steps of its output's quantization. The real value before the graph's own rounding is compared, which is
sharper than the rounded one. Within one step above the bound nothing is proved: a gap, no failure, no pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from folding.ir.types import Feeds
from folding.report import OutputComparison, ToleranceReport, VerificationRow
from folding.sources.base import LayeredReference, Reference, SourceLayer
from folding.verify.context import GraphPair, ProbeSet
from folding.verify.findings import Findings, reason
from folding.verify.model import FORCED, Loaded

# Floats between integer layers are computed from equal values: below this share of their scale is rounding,
# above the larger one is none. Both are those of a bound that proves something
# (docs/explanation/tolerances.md).
FLOAT_ROUNDING, FLOAT_FAULT = 1e-4, 1e-3
SHOWN = 20

Status = Literal["pass", "fail", "undecided", "not_compared"]


@dataclass(frozen=True)
class LayerOutcome:
    """One operator: the largest difference in steps (for floats, of the scale) and what is allowed."""

    layer: SourceLayer
    status: Status
    difference: float = 0.0
    mean: float = 0.0
    worst_index: tuple[int, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class SourceLayers:
    """The row of the conversion, operator by operator; empty where the runtime is judged end to end."""

    rows: tuple[VerificationRow, ...] = ()
    findings: Findings = field(default_factory=Findings)


def compare_source_layers(pair: GraphPair, probes: ProbeSet, reference: Reference | None) -> SourceLayers:
    """Compare on the first probes, where the reference rounds to integers."""
    if not isinstance(reference, LayeredReference) or reference.judged:
        return SourceLayers()
    worst: dict[str, LayerOutcome] = {}
    ran = 0
    skipped: list[str] = []
    for probe in probes.probes[: probes.effort.framework]:
        try:
            layers = reference.layers(probe.feeds)
            found = outcomes(pair.source, layers, probe.feeds)
        except Exception as exc:  # noqa: BLE001 - a runtime that cannot run it says nothing about the artifact
            skipped.append(f"{probe.name} on {reference.name}, operator by operator: {reason(exc)}")
            continue
        ran += 1
        for name, outcome in found.items():
            worst[name] = further(worst.get(name), outcome)
    if not ran:
        gap = f"{reference.name} answered none of the probes ({'; '.join(skipped[-1:])})"
        return SourceLayers((), Findings(gaps=(gap,)))
    return conclusion(reference.name, list(worst.values()), ran, skipped)


_ORDER: dict[Status, int] = {"pass": 0, "undecided": 1, "not_compared": 2, "fail": 3}


def further(one: LayerOutcome | None, two: LayerOutcome) -> LayerOutcome:
    """The worse of two outcomes of one operator."""
    if one is None:
        return two
    return max(one, two, key=lambda outcome: (_ORDER[outcome.status], outcome.difference))


def outcomes(source: Loaded, layers: Sequence[SourceLayer], feeds: Feeds) -> dict[str, LayerOutcome]:
    """Run every operator of the unfolded graph on the runtime's values, and judge each."""
    there = {layer.name: layer for layer in layers if layer.name in source.produced}
    natural = source.session(list(there)).run(feeds)
    forced = {name: layer.value.dtype for name, layer in there.items() if is_fed(layer, natural[name])}
    inner = {name: real_value(source, name) for name in there}
    session = source.session(list(dict.fromkeys([*there, *inner.values()])), forced)
    computed = session.run({**feeds, **{f"{name}{FORCED}": there[name].value for name in forced}})
    carrying = {layer.name for layer in layers if carries(layer)}
    found = {}
    for layer in layers:
        uncut = [name for name in layer.reads if name in carrying and name not in forced]
        if layer.name not in there and layer.name in carrying:
            found[layer.name] = LayerOutcome(layer, "not_compared", why="the graph has no such value")
        elif layer.name in there and uncut:
            why = f"{uncut[0]!r} has no value to be fed"
            found[layer.name] = LayerOutcome(layer, "not_compared", why=why)
        elif layer.name in there:
            found[layer.name] = judge(layer, computed[inner[layer.name]], computed[layer.name])
    return found


def carries(layer: SourceLayer) -> bool:
    """Whether the value carries data: sizes and other whole numbers stay the graph's own."""
    return layer.quantization is not None or layer.value.dtype.kind == "f"


def is_fed(layer: SourceLayer, natural: np.ndarray) -> bool:
    """Whether the value's consumers read it from the runtime: data, in the form that they expect."""
    return carries(layer) and natural.shape == layer.value.shape and natural.dtype == layer.value.dtype


def real_value(source: Loaded, name: str) -> str:
    """The value before the rounding that makes `name`, where a QuantizeLinear makes it."""
    node = source.produced[name]
    return node.input[0] if node.op_type == "QuantizeLinear" else name


def judge(layer: SourceLayer, real: np.ndarray, computed: np.ndarray) -> LayerOutcome:
    """Compare one operator's value with what the graph made of the same inputs."""
    if computed.shape != layer.value.shape:
        if (
            not carries(layer) and computed.size == layer.value.size
        ):  # a scalar that the graph keeps as a vector of one
            same = bool(np.array_equal(layer.value.reshape(-1), computed.reshape(-1)))
            return LayerOutcome(
                layer, "pass" if same else "undecided", why="" if same else "whole numbers differ"
            )
        return LayerOutcome(layer, "fail", np.inf, why=f"shape {computed.shape}, not {layer.value.shape}")
    if computed.size == 0:
        return LayerOutcome(layer, "pass")
    if layer.quantization is not None:
        return judge_quantized(layer, real, computed)
    if layer.value.dtype.kind == "f":
        return judge_floats(layer, computed)
    same = bool(np.array_equal(layer.value, computed))
    why = "" if same else "whole numbers differ"
    return LayerOutcome(layer, "pass" if same else "undecided", 0.0 if same else 1.0, why=why)


def judge_quantized(layer: SourceLayer, real: np.ndarray, computed: np.ndarray) -> LayerOutcome:
    """Stored integers against the real value, clipped to the range that they can hold."""
    assert layer.quantization is not None
    scale, zero = layer.quantization
    stored = layer.value.astype(np.float64)
    limits = np.iinfo(layer.value.dtype)
    if real.dtype.kind == "f":
        wanted = np.clip(real.astype(np.float64) / scale + zero, limits.min, limits.max)
    else:
        wanted = computed.astype(np.float64)
    # The graph's own integers as well, less the half step of their rounding: its scale may be wrong.
    rounded = np.abs(stored - computed.astype(np.float64)) - 0.5
    gap = np.maximum(np.abs(stored - wanted), rounded)
    gap = np.where(np.isfinite(gap), gap, np.inf)
    at = np.unravel_index(int(np.argmax(gap)), gap.shape)
    outcome = LayerOutcome(
        layer, "pass", float(gap[at]), float(np.mean(stored - wanted)), tuple(int(i) for i in at)
    )
    if layer.steps is None:
        return replace(outcome, status="not_compared", why=f"no bound is known for {layer.op}")
    if outcome.difference <= layer.steps:
        return outcome
    if outcome.difference <= layer.steps + 1:
        return replace(outcome, status="undecided", why="within one step of the bound")
    return replace(outcome, status="fail")


def judge_floats(layer: SourceLayer, computed: np.ndarray) -> LayerOutcome:
    """Floats that both sides computed from equal values."""
    with np.errstate(all="ignore"):
        one, two = layer.value.astype(np.float64), computed.astype(np.float64)
        same = (one == two) | (np.isnan(one) & np.isnan(two))
        gap = np.where(same, 0.0, np.abs(one - two))
        gap = np.where(np.isfinite(gap), gap, np.inf)
        scale = float(np.max(np.abs(one), where=np.isfinite(one), initial=0.0))
    at = np.unravel_index(int(np.argmax(gap)), gap.shape)
    share = float(gap[at]) / scale if scale else (np.inf if gap[at] else 0.0)
    status: Status = "pass" if share <= FLOAT_ROUNDING else "undecided" if share <= FLOAT_FAULT else "fail"
    return LayerOutcome(layer, status, share, worst_index=tuple(int(i) for i in at))


# --- the row --------------------------------------------------------------------------------------


def conclusion(name: str, found: list[LayerOutcome], probes: int, skipped: list[str]) -> SourceLayers:
    """The row, and a gap for each operator that nothing decided."""
    failed = [outcome for outcome in found if outcome.status == "fail"]
    open_ = [outcome for outcome in found if outcome.status in ("undecided", "not_compared")]
    passed = [outcome for outcome in found if outcome.status == "pass"]
    status = "fail" if failed else "pass" if passed else "not_compared"
    row = VerificationRow(
        reference=f"{name}, operator by operator",
        provider="cpu",
        optimization_level="disable_all",
        status=status,
        detail=words(found, failed, open_),
        outputs=[shown(outcome) for outcome in sorted([*failed, *passed], key=severity)[:SHOWN]],
        figures={
            "operators": len(found),
            "within_bound": len(passed),
            "undecided": sum(outcome.status == "undecided" for outcome in found),
            "not_compared": sum(outcome.status == "not_compared" for outcome in found),
            "largest_steps": max((o.difference for o in found if o.layer.quantization), default=0.0),
            "largest_mean_steps": max((abs(o.mean) for o in found if o.layer.quantization), default=0.0),
            "probes": probes,
        },
    )
    gaps = [
        f"{outcome.layer.op} {outcome.layer.name!r} is not decided against {name}: "
        f"{outcome.why or 'too near the bound'}"
        for outcome in open_[:3]
    ]
    if not found:
        gaps = [f"no operator of {name} could be compared"]
    return SourceLayers((row,), Findings(gaps=tuple(gaps), skipped=tuple(skipped)))


def severity(outcome: LayerOutcome) -> tuple[bool, float]:
    """Failures first, then the largest differences."""
    return outcome.status != "fail", -outcome.difference


def words(found: list[LayerOutcome], failed: list[LayerOutcome], open_: list[LayerOutcome]) -> str:
    """One sentence for the row."""
    if failed:
        worst = min(failed, key=severity)
        unit = "steps" if worst.layer.quantization else "of its scale"
        return (
            f"{len(failed)} of {len(found)} operators are off; {worst.layer.op} {worst.layer.name!r} by "
            f"{worst.difference:.3g} {unit}"
        )
    largest = max((o.difference for o in found if o.layer.quantization), default=0.0)
    undecided = f"; {len(open_)} not decided" if open_ else ""
    return (
        f"each of {len(found)} operators fed the runtime's own values: at most {largest:.2g} quantization "
        f"steps apart{undecided}"
    )


def shown(outcome: LayerOutcome) -> OutputComparison:
    """The report's form of one operator."""
    layer = outcome.layer
    scale = layer.quantization[0] if layer.quantization else 0.0
    size = outcome.difference * scale if scale else outcome.difference
    numbers = layer.value.dtype.kind in "fiu"
    span = float(np.max(np.abs(layer.value.astype(np.float64)), initial=0.0)) if numbers else 0.0
    whole = scale * max(span, 1.0) if scale else span
    allowed = (layer.steps or 0.0) * scale if scale else FLOAT_ROUNDING * span
    return OutputComparison(
        name=layer.name,
        max_abs=size if scale else outcome.difference * span,
        max_rel=(size / whole if whole else 0.0) if scale else outcome.difference,
        worst_index=list(outcome.worst_index),
        worst_probe="operator by operator",
        tolerance=ToleranceReport(
            rtol=0.0,
            atol=allowed,
            why=f"{layer.op}: {outcome.difference:.2g} of at most {layer.steps:g} quantization steps"
            if scale and layer.steps is not None
            else f"{layer.op}: rounding of floats, {FLOAT_ROUNDING:g} of the scale",
        ),
        passed=outcome.status == "pass",
    )
