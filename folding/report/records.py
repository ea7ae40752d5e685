"""`bnfold.report/1`: what was found, judged, folded, measured and written. Also the OpenAPI schema of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import ConfigDict, Field

from folding.report.record_base import ReportPart
from folding.report.verification_records import (
    BoundCoverage,
    Conditioning,
    DriftRow,
    Hazard,
    SegmentReport,
    Verdict,
    VerificationRow,
)

SCHEMA = "bnfold.report/1"


class HealthCode(StrEnum):
    """What can be wrong with a batch norm's statistics. `ok` stands alone; the others may come together."""

    OK = "ok"
    NEVER_UPDATED = "never_updated"
    MISSING_FROM_CHECKPOINT = "missing_from_checkpoint"
    BATCH_STATISTICS_AT_INFERENCE = "batch_statistics_at_inference"
    DEGENERATE_VARIANCE = "degenerate_variance"
    NON_FINITE = "non_finite"
    NEGATIVE_VARIANCE = "negative_variance"
    LAGGING = "lagging"


class Health(ReportPart):
    """One finding about one batch norm: the code, the numbers it rests on, and what to do."""

    code: HealthCode = Field(description="What was found.")
    severity: Literal["ok", "warning", "error"] = Field(
        description="`error` stops the job; `warning` stops it under strict."
    )
    evidence: str = Field(description="The numbers, in words.")
    remedy: str = Field(default="", description="What the user can do.")
    figures: dict[str, Any] = Field(default_factory=dict, description="The numbers themselves, by name.")


class HeadlineState(StrEnum):
    """Verdict and health together, as faces colour it."""

    HEALTHY = "healthy"  # green: equivalent, and the statistics look healthy
    UNHEALTHY = "unhealthy"  # amber: equivalent, but something is wrong with the statistics
    NOT_EQUIVALENT = "not_equivalent"  # red
    NOT_SHOWN = "not_shown"  # grey: equivalence could not be shown


class Headline(ReportPart):
    """What the report means, in one sentence: the verdict and the health of the statistics together."""

    state: HeadlineState = Field(description="The four states that faces colour.")
    title: str = Field(description="One sentence without a full stop.")
    detail: str = Field(default="", description="The verdict's reason, in words.")
    code: HealthCode | None = Field(default=None, description="The finding that matters most, if any.")
    remedy: str = Field(default="", description="What the user can do, in one or two sentences.")


class ArrayStats(ReportPart):
    """Summary of one parameter array (float64 arithmetic), with a histogram for the pages."""

    variable: str | None = Field(default=None, description="Name in the source, as its author knows it.")
    dtype: str = Field(description="As stored.")
    size: int = Field(description="Number of elements.")
    min: float | None = Field(default=None, description="Smallest finite element.")
    max: float | None = Field(default=None, description="Largest finite element.")
    mean: float | None = Field(default=None, description="Mean of the finite elements.")
    non_finite: int = Field(default=0, description="Count of NaN and infinite elements.")
    histogram: list[int] = Field(default_factory=list, description="Counts in equal bins over [min, max].")


class Certificate(ReportPart):
    """Closed-form proof of one fold site: both sides are affine in the same input.

    `max_relative_rounding` is over all folded weights, |rounded - exact| / |exact|, exact in float64.
    """

    holds: bool = Field(description="Every folded weight is within `bound`, and none became infinite.")
    max_relative_rounding: float = Field(description="The worst folded weight.")
    bound: float = Field(description="Unit roundoff of the weights' dtype, e.g. 2**-24 for float32.")
    overflow: int = Field(default=0, description="Folded weights that would be infinite.")
    underflow: int = Field(default=0, description="Folded weights that vanish although exact ones do not.")
    cancellation: int = Field(default=0, description="Bias elements that lost more than half their digits.")
    detail: str = Field(default="", description="Remarks, in words.")


class NormReport(ReportPart):
    """One batch norm and what became of it."""

    name: str = Field(description="The layer's own name where the source has one.")
    spelling: str = Field(
        description="How it was written: ONNX BatchNormalization, FusedBatchNorm, arithmetic, ..."
    )
    channels: int | None = Field(default=None, description="Number of channels.")
    epsilon: float | None = Field(default=None, description="Added to the variance.")
    momentum: float | None = Field(
        default=None, description="Of the moving averages, where the source tells."
    )
    channel_axis: int | None = Field(default=None, description="Axis of the channels.")
    health: list[Health] = Field(
        default_factory=list,
        description="Findings about the statistics; `ok` alone or a list of what is wrong.",
    )
    stats: dict[str, ArrayStats] = Field(
        default_factory=dict, description="By role: moving_mean, moving_variance, gamma, beta."
    )
    amplification: ArrayStats | None = Field(default=None, description="gamma / sqrt(variance + epsilon).")
    decision: Literal["folded", "kept"] = Field(description="Folded into weights, or kept in the graph.")
    into: list[str] = Field(default_factory=list, description="Nodes whose weights took the affine.")
    direction: Literal["into_producer", "into_consumer", "both", "merged", "removed"] | None = Field(
        default=None, description="Which neighbour took it."
    )
    reason: str | None = Field(default=None, description="SkipReason of a kept one, or of its kept half.")
    detail: str = Field(default="", description="The decision in words.")
    certificate: Certificate | None = Field(default=None, description="Closed-form proof of this fold.")


class TensorInfo(ReportPart):
    """A graph input or output. Symbolic dimensions are strings, unknown ones null."""

    name: str = Field(description="As in the graph.")
    dtype: str = Field(description="ONNX element type.")
    shape: list[int | str | None] | None = Field(
        default=None, description="Null where not even the rank is known."
    )


class Assumption(ReportPart):
    """A value or choice that the source did not settle, and how to override it."""

    what: str = Field(description="The input or choice concerned.")
    value: str = Field(description="What was taken.")
    why: str = Field(description="On what grounds.")
    override: str = Field(default="", description="The option that says otherwise.")


class SourceReport(ReportPart):
    """Where the model came from."""

    format: str = Field(description="As recognised by content.")
    framework: str = Field(description="Who wrote it, with its version where known.")
    digest: str = Field(
        default="",
        description="sha256 of the file; of several files, also in an archive, of their sorted listing.",
    )
    bytes: int = Field(default=0, description="Size of its files together; 0 in reports of older versions.")
    route: str = Field(default="", description="`structure-first`, or `stock` with the reason it was needed.")
    inputs: list[TensorInfo] = Field(default_factory=list, description="Graph inputs.")
    outputs: list[TensorInfo] = Field(default_factory=list, description="Graph outputs.")
    assumptions: list[Assumption] = Field(default_factory=list, description="What the source did not settle.")
    notes: list[str] = Field(default_factory=list, description="Remarks, in words.")


class GraphReport(ReportPart):
    """Sizes before and after."""

    opset: int = Field(description="Of the artifact.")
    nodes_before: int = Field(description="Nodes of the imported graph.")
    nodes_after: int = Field(description="Nodes of the artifact.")
    batch_norms_before: int = Field(description="Batch norms found.")
    batch_norms_after: int = Field(
        description="Batch norms kept; at least the BatchNormalization nodes of the artifact."
    )
    parameters: int = Field(default=0, description="Numbers in all weights of the artifact.")
    bytes: int = Field(default=0, description="Size of the artifact.")


class GraphSide(ReportPart):
    """One graph as columns, nodes in topological order. Graph inputs come first, outputs last, as nodes of
    the pseudo operators `input` and `output`."""

    names: list[str] = Field(default_factory=list, description="Node name, or its first output's.")
    ops: list[int] = Field(default_factory=list, description="Index into `GraphMap.op_types`.")
    shapes: list[str] = Field(default_factory=list, description="Shape of the first output, in words.")
    inputs: list[list[int]] = Field(default_factory=list, description="Indices of the producing nodes.")


class NormSite(ReportPart):
    """Where one batch norm was and where it went; `scale` and `shift` of the first channels."""

    name: str = Field(description="Name of the batch norm.")
    before: list[int] = Field(default_factory=list, description="Its nodes in the graph before.")
    after: list[int] = Field(default_factory=list, description="Nodes that took it, or that it stayed as.")
    scale: list[float] = Field(default_factory=list, description="gamma / sqrt(variance + epsilon).")
    shift: list[float] = Field(default_factory=list, description="beta - mean * scale.")


class GraphMap(ReportPart):
    """The graphs before and after, aligned: what the pages draw."""

    op_types: list[str] = Field(default_factory=list, description="Operators of both graphs.")
    before: GraphSide = Field(default_factory=GraphSide, description="The graph as it was read.")
    after: GraphSide = Field(default_factory=GraphSide, description="The graph as it was written.")
    rows: list[tuple[int, int]] = Field(
        default_factory=list, description="(index before, index after) side by side; -1 where one is alone."
    )
    sites: list[NormSite] = Field(default_factory=list, description="One for each batch norm.")


class ArtifactReport(ReportPart):
    """The bytes that were written."""

    digest: str = Field(description="sha256 of the file.")
    bytes: int = Field(description="Its size.")


class Preprocessing(ReportPart):
    """Preprocessing of one input that the artifact holds: what became of its scale and shift."""

    input: str = Field(description="The input that takes raw values.")
    decision: Literal["folded", "kept"] = Field(description="Whether a layer took it, or some of it.")
    into: list[str] = Field(default_factory=list, description="Layers that took it.")
    reason: str | None = Field(default=None, description="SkipReason of what stays as nodes.")
    detail: str = Field(default="", description="The decision in words.")
    certificate: Certificate | None = Field(default=None, description="Closed-form proof of the fold.")


class OrtFormat(ReportPart):
    """The artifact in ONNX Runtime's own format, verified with it."""

    artifact: ArtifactReport = Field(description="The bytes of the .ort file.")
    required_operators: str = Field(
        description="required_operators.config: what a reduced build of the runtime must hold."
    )


class CodeChange(ReportPart):
    """A line of the training or inference program, and what to write instead."""

    where: str = Field(description="Which part of the program, in words.")
    before: str = Field(description="The line as programs with this finding have it.")
    after: str = Field(description="The line, or lines, to write.")


class Diagnosis(ReportPart):
    """Why the model is right in training and wrong at inference, for one kind of finding."""

    code: HealthCode = Field(description="The finding.")
    title: str = Field(description="What is the matter, in one sentence without a full stop.")
    layers: list[str] = Field(default_factory=list, description="The batch norms concerned.")
    measured: str = Field(default="", description="The numbers, in words.")
    meaning: str = Field(default="", description="What they mean for the model's answers.")
    changes: list[CodeChange] = Field(default_factory=list, description="The lines to change.")


class Recalibrated(ReportPart):
    """A second artifact with the statistics of the calibration data, beside the faithful one."""

    file: str = Field(description="Its name, beside the artifact.")
    artifact: ArtifactReport = Field(description="The bytes that were written.")
    verdict: Verdict = Field(description="Whether it is equivalent to the recalibrated source.")
    summary: str = Field(default="", description="That verdict in one sentence.")
    headline: Headline | None = Field(
        default=None, description="Verdict and health of the second artifact in one sentence."
    )


class Report(ReportPart):
    """The whole of it."""

    schema_: Literal["bnfold.report/1"] = Field(
        default="bnfold.report/1", alias="schema", description="Name and version of this form."
    )
    model_config = ConfigDict(
        extra="forbid", populate_by_name=True, ser_json_inf_nan="strings", defer_build=True
    )

    verdict: Verdict = Field(description="The word that gates the artifact.")
    summary: str = Field(default="", description="The verdict in one sentence.")
    headline: Headline | None = Field(
        default=None, description="Verdict and health in one sentence; null in reports of older versions."
    )
    source: SourceReport = Field(description="Where the model came from.")
    batch_norms: list[NormReport] = Field(
        default_factory=list, description="Every batch norm and what became of it."
    )
    preprocessing: list[Preprocessing] = Field(
        default_factory=list, description="Preprocessing that options put into the artifact, by input."
    )
    graph: GraphReport = Field(description="Sizes before and after.")
    graph_map: GraphMap | None = Field(default=None, description="Both graphs, aligned, for the pages.")
    verification: list[VerificationRow] = Field(default_factory=list, description="Every comparison.")
    probes: list[dict[str, Any]] = Field(
        default_factory=list, description="The inputs of the comparisons, so that they can be made again."
    )
    drift: list[DriftRow] = Field(
        default_factory=list, description="Error of intermediate values, in graph order."
    )
    first_divergence: str | None = Field(default=None, description="The first value that is off.")
    segments: list[SegmentReport] = Field(default_factory=list, description="Segments, in graph order.")
    coverage: BoundCoverage | None = Field(default=None, description="What sound bounds decide.")
    conditioning: list[Conditioning] = Field(default_factory=list, description="Findings `ill_conditioned`.")
    hazards: list[Hazard] = Field(
        default_factory=list, description="Runtimes that answer otherwise when they optimize."
    )
    calibration: dict[str, Any] | None = Field(
        default=None, description="Old and new statistics, where calibration data was given."
    )
    diagnosis: list[Diagnosis] = Field(
        default_factory=list, description="Why training and inference differ, and the lines to change."
    )
    recalibrated: Recalibrated | None = Field(
        default=None, description="The artifact with re-estimated statistics, where data was given."
    )
    latency: dict[str, Any] | None = Field(
        default=None, description="Before and after the fold, where it was measured."
    )
    artifact: ArtifactReport | None = Field(default=None, description="The bytes that were written.")
    ort_format: OrtFormat | None = Field(
        default=None, description="The artifact in ONNX Runtime's own format, where it was asked for."
    )
    timings: dict[str, float] = Field(default_factory=dict, description="Seconds by stage.")
    toolchain: dict[str, str] = Field(
        default_factory=dict, description="Version of every package that decides what an artifact looks like."
    )
    sandbox: str = Field(default="none", description="Level of isolation that the job ran at.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="What differs from the default options."
    )

    def to_json(self, indent: int | None = 2) -> str:
        """The published form (`schema` first, aliases used)."""
        return self.model_dump_json(by_alias=True, indent=indent)


class Inspection(ReportPart):
    """What `inspect` tells without converting: a checkpoint with no graph at all is enough."""

    schema_: Literal["bnfold.inspection/1"] = Field(
        default="bnfold.inspection/1", alias="schema", description="Name and version of this form."
    )
    model_config = ConfigDict(
        extra="forbid", populate_by_name=True, ser_json_inf_nan="strings", defer_build=True
    )

    format: str = Field(description="As recognised by content.")
    framework: str = Field(description="Who wrote it.")
    digest: str = Field(default="", description="sha256 of the bytes as given.")
    signatures: dict[str, dict[str, list[TensorInfo]]] = Field(
        default_factory=dict, description="Inputs and outputs by signature."
    )
    inputs: list[TensorInfo] = Field(
        default_factory=list, description="Graph inputs, where they are settled."
    )
    outputs: list[TensorInfo] = Field(
        default_factory=list, description="Graph outputs, where they are settled."
    )
    input_candidates: list[TensorInfo] = Field(default_factory=list, description="What could be an input.")
    output_candidates: list[TensorInfo] = Field(default_factory=list, description="What could be an output.")
    headline: Headline | None = Field(
        default=None, description="Health in one sentence; null in inspections of older versions."
    )
    batch_norms: list[NormReport] = Field(
        default_factory=list,
        description="Every batch norm with statistics and health; nothing is folded yet.",
    )
    assumptions: list[Assumption] = Field(default_factory=list, description="What the source did not settle.")
    variables: int | None = Field(default=None, description="Number of variables.")
    parameters: int | None = Field(default=None, description="Numbers in all of them.")
    notes: list[str] = Field(default_factory=list, description="Remarks, in words.")

    def to_json(self, indent: int | None = 2) -> str:
        """The published form."""
        return self.model_dump_json(by_alias=True, indent=indent)
