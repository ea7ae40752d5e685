"""The artifact layer by layer on devices: drift beside the CPU's, and segments judged by the device's bound.

Given: the artifact's inner values as one run on the device returns them, at `disable_all`.
Result: each segment between them is evaluated in float64 from the device's own values, so that the difference
at a value is what the device's arithmetic did in that segment alone. Above the bound of that arithmetic
(float32, TF32, float16) it is a fault of the kernel or of its layout.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from folding.ir.types import Feeds
from folding.report import DriftRow, VerificationRow
from folding.verify import providers
from folding.verify.arithmetic import arithmetic_of
from folding.verify.bounds import Arithmetic
from folding.verify.compare.bounded import Task, compare_bounded
from folding.verify.compare.cuts import Cut, alignment, drift_row, floats
from folding.verify.compare.layers import LayerCheck
from folding.verify.context import GraphPair, ProbeSet
from folding.verify.findings import Findings, reason
from folding.verify.float64 import Float64UnavailableError
from folding.verify.providers.base import Provider
from folding.verify.steps.compare_layers import decided, layer_row, shown
from folding.verify.verdict import LAYERWISE

SECONDS = 20.0  # for the evaluations of one variant


@dataclass(frozen=True)
class DeviceLayers:
    """Drift of the artifact on each device, and rows of the segments that its bound judges."""

    drift: tuple[DriftRow, ...] = ()
    rows: tuple[VerificationRow, ...] = ()
    findings: Findings = field(default_factory=Findings)


@dataclass(frozen=True)
class _Variant:
    """One way in which a provider computes. drifts: its differences from the CPU are reported."""

    provider: Provider
    label: str
    drifts: bool
    arithmetic: Arithmetic | None


def compare_devices(pair: GraphPair, probes: ProbeSet, check: LayerCheck | None) -> DeviceLayers:
    """Run the artifact once on each device and variant, with its inner values, and judge them."""
    if check is None or not check.drift:
        return DeviceLayers()
    variants = list(_variants(pair))
    if not variants:
        return DeviceLayers()
    names = [row.value for row in check.drift]
    feeds = probes.first.feeds
    drift: list[DriftRow] = []
    rows: list[VerificationRow] = []
    skipped: list[str] = []
    base = floats(pair.source.session(names).run(feeds))
    with tempfile.TemporaryDirectory(prefix="bnfold-") as scratch:
        model = with_outputs(pair.artifact.path, names, Path(scratch))
        for each in variants if model is not None else ():
            assert model is not None
            try:
                found = floats(each.provider.open(model, "disable_all", each.label).run(feeds))
            except Exception as exc:  # noqa: BLE001 - the provider's own row tells of it
                skipped.append(f"layers on {each.label}: {reason(exc)}")
                continue
            if each.drifts:
                drift += drift_of(each.label, names, base, found)
            if each.arithmetic is not None:
                rows += judged(pair, feeds, check, each, each.arithmetic, found)
    return DeviceLayers(tuple(drift), tuple(rows), Findings(skipped=tuple(skipped)))


def _variants(pair: GraphPair) -> Iterator[_Variant]:
    """Yield each variant of each device that is here and has something to tell."""
    types = arithmetic_of(pair.artifact)
    for name in dict.fromkeys([*pair.options.providers, *pair.options.require]):
        provider = providers.find(name)
        if name == "cpu" or provider.unavailable() is not None:
            continue
        for i, (label, _) in enumerate(provider.variants()):
            arithmetic = provider.arithmetic(label, types)
            if i == 0 or arithmetic is not None:
                yield _Variant(provider, label, i == 0, arithmetic)


def judged(
    pair: GraphPair,
    feeds: Feeds,
    check: LayerCheck,
    variant: _Variant,
    arithmetic: Arithmetic,
    found: Feeds,
) -> Iterable[VerificationRow]:
    """Return the row of a variant's segments; none where nothing could be bounded.

    Values are judged where the CPU's own segment holds: there our float64 evaluation is a reference.
    """
    outputs = frozenset(pair.artifact.outputs)
    names = [name for name, segment in check.runtime.items() if segment.passed and name in found]
    task = Task(
        pair.artifact, pair.artifact, feeds, [Cut(name, True) for name in names],
        base={name: found[name] for name in names}, computed=found, arithmetic=arithmetic, outputs=outputs,
        trusted=frozenset(names), deadline=time.perf_counter() + SECONDS,
    )  # fmt: skip
    try:
        segments = decided(compare_bounded(task).runtime)
    except Float64UnavailableError:
        return []
    if not segments:
        return []
    each = [shown(segment, f"rounding of {arithmetic.name}") for segment in segments]
    off = [o.name for o in each if not o.passed]
    words = (
        f"{len(off)} of {len(each)} values are off, {off[0]!r} among them"
        if off
        else f"{len(each)} values agree, by the sound bound of {arithmetic.name}"
    )
    row = layer_row(LAYERWISE, variant.label, each, words)
    row.figures.update(bounded=len(each), arithmetic=arithmetic.name)
    return [row]


def drift_of(label: str, names: list[str], base: Feeds, found: Feeds) -> list[DriftRow]:
    """Return the drift rows of one device."""
    return [
        drift_row(cut, base[cut.name], found[cut.name]).model_copy(update={"provider": label})
        for cut in device_cuts(names, base, found)
    ]


def device_cuts(names: list[str], base: Feeds, found: Feeds) -> list[Cut]:
    """The values that are there on both sides, in the layout in which they agree."""
    cuts = []
    for name in dict.fromkeys(names):
        if name in base and name in found:
            perm = alignment(base[name], found[name])
            straight = perm is None or perm == tuple(range(base[name].ndim))
            if not straight or base[name].shape == found[name].shape:
                cuts.append(Cut(name, True, None if straight else perm))
    return cuts


def with_outputs(path: Path, names: list[str], folder: Path) -> Path | None:
    """A copy of a model that also returns inner values; None where its weights lie in other files."""
    model = onnx.load_model(str(path), load_external_data=False)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        return None
    produced = {name for node in model.graph.node for name in node.output}
    present = {value.name for value in model.graph.output}
    wanted = [name for name in dict.fromkeys(names) if name in produced - present]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    onnx.save_model(model, str(folder / "layers.onnx"))
    return folder / "layers.onnx"
