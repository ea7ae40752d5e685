"""The report on an artifact, from its verification and what else is known of it."""

from __future__ import annotations

from typing import Any

from folding import toolchain
from folding.options import FoldOptions
from folding.report.headline import headline
from folding.report.records import (
    ArtifactReport,
    GraphMap,
    GraphReport,
    NormReport,
    OrtFormat,
    Report,
    SourceReport,
)
from folding.report.verification_records import Verification


def proved_report(
    proof: Verification,
    options: FoldOptions,
    *,
    source: SourceReport,
    batch_norms: list[NormReport],
    graph: GraphReport,
    graph_map: GraphMap | None,
    artifact: ArtifactReport,
    ort_format: OrtFormat | None = None,
    calibration: dict[str, Any] | None = None,
    timings: dict[str, float] | None = None,
) -> Report:
    """Return the report with its headline; `timings` are seconds by stage."""
    report = Report(
        verdict=proof.verdict,
        summary=proof.summary,
        source=source,
        batch_norms=batch_norms,
        graph=graph,
        graph_map=graph_map,
        verification=proof.rows,
        probes=proof.probes,
        drift=proof.drift,
        first_divergence=proof.first_divergence,
        segments=proof.segments,
        coverage=proof.coverage,
        conditioning=proof.conditioning,
        hazards=proof.hazards,
        calibration=calibration,
        latency=proof.latency,
        artifact=artifact,
        ort_format=ort_format,
        timings=timings or {},
        toolchain=toolchain.versions(),
        options=options.model_dump(mode="json", exclude_defaults=True),
    )
    report.headline = headline(report)
    return report
