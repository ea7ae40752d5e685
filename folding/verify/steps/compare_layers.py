"""The comparison layer by layer, as rows of the report: in the model's precision, in float64, on devices."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx

from folding.report import DriftRow, VerificationRow
from folding.sources.base import Feeds
from folding.verify import float64, providers
from folding.verify.compare.segments import Cut, LayerCheck, Layers, alignment, drift_row, floats
from folding.verify.context import GraphPair, ProbeSet
from folding.verify.findings import Findings, reason
from folding.verify.float64 import widen
from folding.verify.noise.measure import NoiseModel
from folding.verify.steps.float64_reference import COST
from folding.verify.verdict import EXACT_LAYERS, LAYERWISE

RANDOM_OPS = frozenset(
    ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial")
)
# Four evaluations in float64 (both sides, noise twice) may take this long.
EXACT_SECONDS = 0.6
DROPPED_FACTOR = 5


@dataclass(frozen=True)
class LayerResult:
    """Rows layer by layer; check: drift and failures, None where the artifact did not run."""

    rows: tuple[VerificationRow, ...] = ()
    check: LayerCheck | None = None
    findings: Findings = field(default_factory=Findings)


def compare_layers(pair: GraphPair, probes: ProbeSet, noise: NoiseModel, *, exact: bool) -> LayerResult:
    """Compare in the model's precision. exact: float64 is to be had, and is used where it is cheap."""
    gaps: tuple[str, ...] = ()
    if RANDOM_OPS & pair.source.op_types():
        gaps = ("the model draws random numbers at inference: its outputs cannot be compared",)
    feeds = probes.first.feeds
    row = VerificationRow(
        reference=LAYERWISE, provider="cpu", optimization_level="disable_all", status="pass"
    )
    layers = Layers(pair.source, pair.artifact, pair.sites, feeds, limit=probes.effort.cut_bytes)
    try:
        check = layers.check(pair.rng(0x6C61796572), noise.perturbed())
    except Exception as exc:  # noqa: BLE001 - whole, both graphs are run elsewhere: what fails here is the cut
        row.status, row.detail = "not_compared", f"the graphs do not run when cut: {reason(exc, 300)}"
        return LayerResult((row,), None, Findings(gaps=gaps, limits=("no layer was compared by itself",)))
    fill(row, check)
    found = LayerResult((row,), check, Findings(gaps=gaps))
    # A dropped name leaves a longer segment, in which a small fault may drown: float64 is worth its time.
    limit = EXACT_SECONDS * (DROPPED_FACTOR if check.dropped else 1)
    if exact and 4 * COST * probes.effort.seconds <= limit:
        return with_float64(found, pair, feeds, noise, limit)
    return found


def with_float64(
    found: LayerResult, pair: GraphPair, feeds: Feeds, noise: NoiseModel, seconds: float
) -> LayerResult:
    """The same in float64: no noise but the rounding of the stored weights, so the limits are far tighter."""
    row = VerificationRow(
        reference=EXACT_LAYERS, provider="float64", optimization_level="none", status="pass"
    )
    wide = {name: widen(array) for name, array in feeds.items()}
    engine = float64.engine(time.perf_counter() + 5 * seconds)
    layers = Layers(pair.source, pair.artifact, pair.sites, wide, engine=engine)
    try:
        check = layers.check(pair.rng(0x6578616374), noise.perturbed()[:2])
    except Exception as exc:  # noqa: BLE001 - the evaluator is ours: what it cannot do is nobody's fault
        limit = f"float64 layer by layer left out: {reason(exc)}"
        return replace(found, findings=found.findings + Findings(limits=(limit,)))
    fill(row, check)
    if found.check is not None and not found.check.failed:
        found.check.failed = check.failed
    return replace(found, rows=(*found.rows, row))


def fill(row: VerificationRow, check: LayerCheck) -> None:
    """Put the outcome into a row."""
    shown = sorted(check.outputs, key=lambda o: (o.passed, -o.max_rel))
    failed = [o for o in shown if not o.passed]
    row.status, row.detail = "fail" if failed else "pass", words(check)
    row.outputs = failed[:20] + [o for o in shown if o.passed][:5]
    row.figures.update(cuts=check.cuts, reused_names=check.dropped, unaligned_sites=check.unaligned)


def words(check: LayerCheck) -> str:
    """One sentence for the row."""
    if check.failed:
        return f"first divergence at {check.failed[0]!r}; {len(check.failed)} of {check.cuts} values are off"
    return f"{check.cuts} values agree, each segment run on the source's own inputs"


@dataclass(frozen=True)
class DeviceDrift:
    """Drift rows of the artifact on each device beside the CPU."""

    rows: tuple[DriftRow, ...] = ()
    findings: Findings = field(default_factory=Findings)


def device_drift(pair: GraphPair, probes: ProbeSet, check: LayerCheck | None) -> DeviceDrift:
    """Measure the drift on each device at the values that the CPU rows have."""
    others = [name for name in pair.options.providers if name != "cpu"]
    if not others or check is None or not check.drift:
        return DeviceDrift()
    names = [row.value for row in check.drift]
    feeds = probes.first.feeds
    base = floats(pair.source.session(names).run(feeds))
    rows: list[DriftRow] = []
    skipped: list[str] = []
    with tempfile.TemporaryDirectory(prefix="bnfold-") as scratch:
        model = with_outputs(pair.artifact.path, names, Path(scratch))
        for name in others if model is not None else ():
            provider = providers.find(name)
            if provider.unavailable() is not None or model is None:
                continue
            label = provider.variants()[0][0]
            try:
                found = floats(provider.open(model, "disable_all", label).run(feeds))
            except Exception as exc:  # noqa: BLE001 - the provider's own row tells of it
                skipped.append(f"layers on {label}: {reason(exc)}")
                continue
            rows += [
                drift_row(cut, base[cut.name], found[cut.name]).model_copy(update={"provider": label})
                for cut in device_cuts(names, base, found)
            ]
    return DeviceDrift(tuple(rows), Findings(skipped=tuple(skipped)))


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
