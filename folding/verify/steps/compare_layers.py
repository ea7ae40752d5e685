"""The comparison layer by layer, as rows of the report: by bounds and by noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from folding.ir.types import Feeds
from folding.report import OutputComparison, ToleranceReport, VerificationRow, figures
from folding.verify.arithmetic import arithmetic_of
from folding.verify.compare.graph_stream import RANDOM
from folding.verify.compare.layers import LayerCheck, Layers
from folding.verify.compare.segment_result import Segment
from folding.verify.context import GraphPair, ProbeSet
from folding.verify.findings import Findings, reason
from folding.verify.noise.measure import NoiseModel
from folding.verify.steps.float64_reference import COST
from folding.verify.verdict import EXACT_LAYERS, LAYERWISE

# Float64 evaluations of both sides with their bounds may take this long; a dropped name leaves a longer
# segment, in which a small fault may drown in noise.
EXACT_SECONDS = 2.0
EVALUATIONS = 3  # source, artifact, absolute twin


@dataclass(frozen=True)
class Perturbed:
    """The perturbed weights of a noise model, made when they are read."""

    noise: NoiseModel

    def __iter__(self) -> Iterator[Feeds]:
        """Yield one set of weights for each noise run."""
        return iter(self.noise.perturbed())


@dataclass(frozen=True)
class LayerResult:
    """Rows layer by layer; check: drift and failures, None where nothing was compared."""

    rows: tuple[VerificationRow, ...] = ()
    check: LayerCheck | None = None
    findings: Findings = field(default_factory=Findings)


def compare_layers(pair: GraphPair, probes: ProbeSet, noise: NoiseModel) -> LayerResult:
    """Judge every segment on the first probe: the fold in float64, the runtime in its own arithmetic."""
    gaps: tuple[str, ...] = ()
    if RANDOM & pair.source.op_types():
        gaps = ("the model draws random numbers at inference: its outputs cannot be compared",)
    cost = EVALUATIONS * COST * probes.effort.seconds
    layers = Layers(
        pair.source,
        pair.artifact,
        pair.sites,
        probes.first.feeds,
        limit=probes.effort.cut_bytes,
        arithmetic=arithmetic_of(pair.artifact),
        seconds=5 * EXACT_SECONDS if cost <= EXACT_SECONDS else 0.0,
        casts=pair.casts,
    )
    try:
        check = layers.check(pair.rng(0x6C61796572), Perturbed(noise))
    except Exception as exc:  # noqa: BLE001 - whole, both graphs are run elsewhere: what fails here is the cut
        row = layer_row(LAYERWISE, "cpu", [], f"the graphs do not run when cut: {reason(exc, 300)}")
        row.status = "not_compared"
        return LayerResult((row,), None, Findings(gaps=gaps, limits=("no layer was compared by itself",)))
    limits = tuple(check.limits)
    if not check.fold and not limits:
        limits = (f"float64 layer by layer left out: it would take about {figures.seconds(cost)}",)
    return LayerResult(tuple(rows_of(check)), check, Findings(gaps=gaps, limits=limits))


def rows_of(check: LayerCheck) -> Iterable[VerificationRow]:
    """Return the row of the fold step in float64, and that of the runtime with the measured segments."""
    fold = [shown(s, "rounding of the constants that the fold changed") for s in decided(check.fold)]
    if fold:
        yield layer_row(EXACT_LAYERS, "float64", fold, words(fold, "in float64, by sound bounds"))
    runtime = [shown(s, "rounding of the runtime's arithmetic") for s in decided(check.runtime)]
    both = [*check.measured.values(), *runtime]
    row = layer_row(LAYERWISE, "cpu", both, words(both, "each segment run on the source's own inputs"))
    row.figures.update(cuts=check.cuts, reused_names=check.dropped, unaligned_sites=check.unaligned)
    row.figures.update(bounded=len(runtime), measured=len(check.measured))
    yield row


def decided(segments: dict[str, Segment]) -> list[Segment]:
    """Return the segments that a bound decides."""
    return [segment for segment in segments.values() if segment.passed is not None]


def shown(segment: Segment, what: str) -> OutputComparison:
    """Return a bounded segment in the report's form: failing, the element furthest past its bound."""
    size = segment.largest if segment.passed else segment.difference
    return OutputComparison(
        name=segment.name,
        max_abs=size,
        max_rel=size / segment.scale if segment.scale else (0.0 if size == 0 else float("inf")),
        worst_index=list(segment.worst_index),
        worst_probe="layer by layer",
        tolerance=ToleranceReport(
            rtol=0.0,
            atol=segment.bound,
            why=segment.why or f"sound bound: {what} ({segment.ratio:.2g} of it)",
        ),
        passed=bool(segment.passed),
    )


def layer_row(reference: str, provider: str, found: list[OutputComparison], detail: str) -> VerificationRow:
    """Return one row; of the passing values only the furthest are kept."""
    failed = sorted((o for o in found if not o.passed), key=lambda o: -o.max_rel)
    passed = sorted((o for o in found if o.passed), key=lambda o: -o.max_rel)
    return VerificationRow(
        reference=reference,
        provider=provider,
        optimization_level="none" if provider == "float64" else "disable_all",
        status="fail" if failed else "pass",
        detail=detail,
        outputs=failed[:20] + passed[:5],
    )


def words(found: list[OutputComparison], how: str) -> str:
    """One sentence for the row."""
    failed = [o.name for o in found if not o.passed]
    if failed:
        return f"{len(failed)} of {len(found)} values are off, {failed[0]!r} among them"
    return f"{len(found)} values agree, {how}"
