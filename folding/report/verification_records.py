"""What a verification found: comparisons, bounds, segments and hazards."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from folding.report.record_base import ReportPart


class Verdict(StrEnum):
    """The word that gates the artifact: only `pass` is published."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class ToleranceReport(ReportPart):
    """|candidate - reference| <= atol + rtol * |reference|, and why these two numbers."""

    rtol: float = Field(description="Relative part.")
    atol: float = Field(description="Absolute part.")
    why: str = Field(description="Where the two numbers come from.")


class OutputComparison(ReportPart):
    """One output over all probes. `max_rel` is relative to the output's scale, not to each element."""

    name: str = Field(description="Output of the graph.")
    max_abs: float = Field(description="Largest absolute difference.")
    max_rel: float = Field(description="The same, relative to the output's scale.")
    worst_index: list[int] = Field(default_factory=list, description="Where it is.")
    worst_probe: str = Field(default="", description="On which input.")
    tolerance: ToleranceReport = Field(description="What is allowed.")
    passed: bool = Field(description="Whether the difference is within it.")


class VerificationRow(ReportPart):
    """One reference against one candidate session."""

    reference: str = Field(description="What the artifact is compared with.")
    provider: str = Field(description="ONNX Runtime execution provider.")
    optimization_level: str = Field(
        description="Of ONNX Runtime: `disable_all`, `enable_all`; `ort_format`: the artifact in that format."
    )
    status: Literal["pass", "fail", "reported", "unavailable", "not_compared"] = Field(
        description="`reported` (figures that are not judged), `unavailable` (no such provider here) and "
        "`not_compared` (one of the two values could not be had; `detail` says why): neither pass nor fail."
    )
    judged: bool = Field(default=True, description="False: reported only (TF32 on, for instance).")
    detail: str = Field(default="", description="Remarks, in words.")
    outputs: list[OutputComparison] = Field(
        default_factory=list, description="One comparison for each output."
    )
    figures: dict[str, Any] = Field(default_factory=dict, description="Further numbers of this row.")


class Hazard(ReportPart):
    """A runtime that answers differently at different optimization levels, and the way around it."""

    code: str = Field(description="See hazards.md.")
    optimizer: str | None = Field(default=None, description="The optimization that causes it.")
    provider: str = Field(default="cpu", description="Where it was seen.")
    max_abs: float | None = Field(default=None, description="How far the answers are apart.")
    detail: str = Field(description="In words.")
    workaround: str = Field(default="", description="The session option that avoids it.")


class DriftRow(ReportPart):
    """Error of one intermediate value, in graph order."""

    value: str = Field(description="Name of the intermediate value.")
    max_abs: float = Field(description="Largest absolute difference.")
    max_rel: float = Field(description="Relative to the value's scale.")
    scale: float = Field(description="Largest absolute element of the reference.")
    provider: str = Field(default="cpu", description="Where it was measured.")


class SegmentReport(ReportPart):
    """One part of the graph between values that source and artifact share, judged on the source's inputs."""

    value: str = Field(description="The value at the segment's end.")
    step: Literal["fold", "runtime"] = Field(
        description="`fold`: artifact against source in float64. `runtime`: a provider against float64."
    )
    status: Literal["bounded", "measured"] = Field(
        description="`bounded`: a sound bound of rounding decides. `measured`: noise decides."
    )
    passed: bool | None = Field(description="None where only the measured noise judges it.")
    difference: float = Field(description="At the element whose difference is largest beside its bound.")
    bound: float = Field(description="What rounding can do there.")
    ratio: float = Field(description="difference / bound; above 1 is a fault.")
    scale: float = Field(description="Largest absolute element of the source's value.")
    worst_index: list[int] = Field(default_factory=list, description="Where that element is.")
    elements: int = Field(default=0, description="Elements of the value.")
    undecided: int = Field(default=0, description="Elements that no bound below 1e-4 of the scale decides.")
    detail: str = Field(default="", description="Why there is no bound, in words.")


class BoundCoverage(ReportPart):
    """How much of the fold is decided by sound bounds."""

    segments: int = Field(default=0, description="Segments compared.")
    bounded: int = Field(default=0, description="Segments that a bound decides; noise decides the others.")
    elements: int = Field(default=0, description="Elements compared.")
    bounded_elements: int = Field(default=0, description="Elements that a bound decides.")
    undecided: int = Field(default=0, description="Undecided elements of bounded segments.")
    worst_ratio: float = Field(default=0.0, description="Largest difference / bound.")


class Conditioning(ReportPart):
    """Finding `ill_conditioned`: the model itself amplifies rounding, so correct runs of it differ."""

    code: Literal["ill_conditioned"] = Field(default="ill_conditioned", description="The finding.")
    probe: str = Field(description="The input on which it shows most.")
    output: str = Field(description="The output that moves.")
    difference: float = Field(description="Largest difference of correct runs, of the output's scale.")
    layer: str = Field(default="", description="The first value at which the difference grows most.")
    factor: float = Field(default=1.0, description="How much it grows there.")


class Verification(ReportPart):
    """The proof: rows of reference against candidate, and the verdict that follows from them."""

    verdict: Verdict = Field(description="The word that follows from the rows.")
    summary: str = Field(default="", description="The verdict in one sentence.")
    rows: list[VerificationRow] = Field(default_factory=list, description="Every comparison.")
    probes: list[dict[str, Any]] = Field(
        default_factory=list, description="The inputs, so that they can be made again."
    )
    drift: list[DriftRow] = Field(default_factory=list, description="Layer by layer, in graph order.")
    first_divergence: str | None = Field(default=None, description="The first value that is off.")
    segments: list[SegmentReport] = Field(default_factory=list, description="Segments, in graph order.")
    coverage: BoundCoverage | None = Field(default=None, description="What sound bounds decide.")
    conditioning: list[Conditioning] = Field(default_factory=list, description="Findings `ill_conditioned`.")
    hazards: list[Hazard] = Field(
        default_factory=list, description="Runtimes that answer otherwise when they optimize."
    )
    latency: dict[str, Any] | None = Field(
        default=None, description="Before and after the fold, where it was measured."
    )

    def __bool__(self) -> bool:
        return self.verdict is Verdict.PASS
