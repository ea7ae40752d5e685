"""The comparison layer by layer, as rows of the report: in the model's precision, in float64, on devices."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import onnx

from folding.report import VerificationRow
from folding.sources.base import Feeds
from folding.verify import float64, providers
from folding.verify.compare.segments import Cut, LayerCheck, Layers, alignment, drift_row, floats
from folding.verify.context import Study
from folding.verify.float64.evaluator import Float64UnavailableError, widen
from folding.verify.verdict import EXACT_LAYERS, LAYERWISE

RANDOM_OPS = frozenset(
    ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial")
)
# Four evaluations in float64 (both sides, noise twice) may take this long.
EXACT_SECONDS = 0.6
DROPPED_FACTOR = 5


def layer_by_layer(study: Study, *, exact: bool) -> None:
    """Add the rows. exact: float64 evaluation is to be had, and is used where it is cheap."""
    if RANDOM_OPS & study.source.op_types():
        study.evidence.gaps.append(
            "the model draws random numbers at inference: its outputs cannot be compared"
        )
    feeds = study.probes[0].feeds
    row = VerificationRow(
        reference=LAYERWISE, provider="cpu", optimization_level="disable_all", status="pass"
    )
    study.rows.append(row)
    layers = Layers(study.source, study.artifact, study.sites, feeds, limit=study.effort.cut_bytes)
    try:
        study.layers = layers.check(study.rng(0x6C61796572), study.perturbed())
    except Exception as exc:  # noqa: BLE001 - the source ran before: what does not run here is the artifact
        row.status, row.detail = "fail", f"the artifact does not run: {str(exc).strip()[:300]}"
        return
    fill(row, study.layers)
    # A dropped name leaves a longer segment, in which a small fault may drown: float64 is worth its time.
    limit = EXACT_SECONDS * (DROPPED_FACTOR if study.layers.dropped else 1)
    if exact and 4 * float64.COST * study.effort.seconds <= limit:
        in_float64(study, feeds, limit)


def in_float64(study: Study, feeds: Feeds, seconds: float) -> None:
    """The same in float64: no noise but the rounding of the stored weights, so the limits are far tighter."""
    row = VerificationRow(
        reference=EXACT_LAYERS, provider="float64", optimization_level="none", status="pass"
    )
    wide = {name: widen(array) for name, array in feeds.items()}
    engine = float64.engine(time.perf_counter() + 5 * seconds)
    layers = Layers(study.source, study.artifact, study.sites, wide, engine=engine)
    try:
        check = layers.check(study.rng(0x6578616374), study.perturbed()[:2])
    except Float64UnavailableError as exc:
        study.evidence.limits.append(f"float64 layer by layer left out: {exc}")
        return
    fill(row, check)
    study.rows.append(row)
    if study.layers is not None and not study.layers.failed:
        study.layers.failed = check.failed


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


def device_drift(study: Study) -> None:
    """Drift rows of the artifact on each device beside the CPU, at the values that the CPU rows have."""
    others = [name for name in study.options.providers if name != "cpu"]
    if not others or study.layers is None or not study.layers.drift:
        return
    names = [row.value for row in study.layers.drift]
    feeds = study.probes[0].feeds
    base = floats(study.source.session(names).run(feeds))
    with tempfile.TemporaryDirectory(prefix="bnfold-") as scratch:
        model = with_outputs(study.artifact.path, names, Path(scratch))
        for name in others if model is not None else ():
            provider = providers.find(name)
            if provider.unavailable() is not None or model is None:
                continue
            label = provider.variants()[0][0]
            try:
                found = floats(provider.open(model, "disable_all", label).run(feeds))
            except Exception as exc:  # noqa: BLE001 - the provider's own row tells of it
                study.evidence.skipped.append(f"layers on {label}: {str(exc).strip()[:200]}")
                continue
            study.layers.drift += [
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
