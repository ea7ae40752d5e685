"""`bnfold.report/1`: what was found, judged, folded, measured and written. Also the OpenAPI schema of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = "bnfold.report/1"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")


class Verdict(StrEnum):
    """The word that gates the artifact: only `pass` is published."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


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


class Health(_Part):
    """One finding about one batch norm: the code, the numbers it rests on, and what to do."""

    code: HealthCode
    severity: Literal["ok", "warning", "error"]
    evidence: str = Field(description="The numbers, in words.")
    remedy: str = ""
    figures: dict[str, Any] = Field(default_factory=dict)


class ArrayStats(_Part):
    """Summary of one parameter array (float64 arithmetic), with a histogram for the pages."""

    variable: str | None = Field(default=None, description="Name in the source, as its author knows it.")
    dtype: str
    size: int
    min: float | None = None
    max: float | None = None
    mean: float | None = None
    non_finite: int = 0
    histogram: list[int] = Field(default_factory=list, description="Counts in equal bins over [min, max].")


class Certificate(_Part):
    """Closed-form proof of one fold site: both sides are affine in the same input.

    `max_relative_rounding` is over all folded weights, |rounded - exact| / |exact|, exact in float64.
    """

    holds: bool
    max_relative_rounding: float
    bound: float = Field(description="Unit roundoff of the weights' dtype, e.g. 2**-24 for float32.")
    overflow: int = 0
    underflow: int = 0
    cancellation: int = Field(default=0, description="Bias elements that lost more than half their digits.")
    detail: str = ""


class NormReport(_Part):
    """One batch norm and what became of it."""

    name: str
    spelling: str
    channels: int | None = None
    epsilon: float | None = None
    momentum: float | None = None
    channel_axis: int | None = None
    health: list[Health] = Field(default_factory=list)
    stats: dict[str, ArrayStats] = Field(
        default_factory=dict, description="By role: moving_mean, moving_variance, gamma, beta."
    )
    amplification: ArrayStats | None = Field(default=None, description="gamma / sqrt(variance + epsilon).")
    decision: Literal["folded", "kept"]
    into: list[str] = Field(default_factory=list, description="Nodes whose weights took the affine.")
    direction: Literal["into_producer", "into_consumer", "both", "merged", "removed"] | None = None
    reason: str | None = Field(default=None, description="SkipReason of a kept one, or of its kept half.")
    detail: str = ""
    certificate: Certificate | None = None


class TensorInfo(_Part):
    """A graph input or output. Symbolic dimensions are strings, unknown ones null."""

    name: str
    dtype: str
    shape: list[int | str | None] | None = None


class Assumption(_Part):
    """A value or choice that the source did not settle, and how to override it."""

    what: str
    value: str
    why: str
    override: str = ""


class SourceReport(_Part):
    """Where the model came from."""

    format: str
    framework: str
    digest: str = ""
    route: str = Field(default="", description="`structure-first`, or `stock` with the reason it was needed.")
    inputs: list[TensorInfo] = Field(default_factory=list)
    outputs: list[TensorInfo] = Field(default_factory=list)
    assumptions: list[Assumption] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)


class GraphReport(_Part):
    """Sizes before and after."""

    opset: int
    nodes_before: int
    nodes_after: int
    batch_norms_before: int
    batch_norms_after: int
    parameters: int = 0
    bytes: int = 0


class ToleranceReport(_Part):
    """|candidate - reference| <= atol + rtol * |reference|, and why these two numbers."""

    rtol: float
    atol: float
    why: str


class OutputComparison(_Part):
    """One output over all probes. `max_rel` is relative to the output's scale, not to each element."""

    name: str
    max_abs: float
    max_rel: float
    worst_index: list[int] = Field(default_factory=list)
    worst_probe: str = ""
    tolerance: ToleranceReport
    passed: bool


class VerificationRow(_Part):
    """One reference against one candidate session."""

    reference: str
    provider: str
    optimization_level: str
    status: Literal["pass", "fail", "unavailable"]
    judged: bool = Field(default=True, description="False: reported only (TF32 on, for instance).")
    detail: str = ""
    outputs: list[OutputComparison] = Field(default_factory=list)
    figures: dict[str, Any] = Field(default_factory=dict)


class Hazard(_Part):
    """A runtime that answers differently at different optimization levels, and the way around it."""

    code: str
    optimizer: str | None = None
    provider: str = "cpu"
    max_abs: float | None = None
    detail: str
    workaround: str = ""


class DriftRow(_Part):
    """Error of one intermediate value, in graph order."""

    value: str
    max_abs: float
    max_rel: float
    scale: float
    provider: str = "cpu"


class Verification(_Part):
    """The proof: rows of reference against candidate, and the verdict that follows from them."""

    verdict: Verdict
    summary: str = ""
    rows: list[VerificationRow] = Field(default_factory=list)
    probes: list[dict[str, Any]] = Field(default_factory=list)
    drift: list[DriftRow] = Field(default_factory=list)
    first_divergence: str | None = None
    hazards: list[Hazard] = Field(default_factory=list)
    latency: dict[str, Any] | None = None

    def __bool__(self) -> bool:
        return self.verdict is Verdict.PASS


class ArtifactReport(_Part):
    """The bytes that were written."""

    digest: str
    bytes: int


class Report(_Part):
    """The whole of it."""

    schema_: Literal["bnfold.report/1"] = Field(default="bnfold.report/1", alias="schema")
    model_config = ConfigDict(extra="forbid", populate_by_name=True, ser_json_inf_nan="strings")

    verdict: Verdict
    summary: str = ""
    source: SourceReport
    batch_norms: list[NormReport] = Field(default_factory=list)
    graph: GraphReport
    verification: list[VerificationRow] = Field(default_factory=list)
    probes: list[dict[str, Any]] = Field(default_factory=list)
    drift: list[DriftRow] = Field(default_factory=list)
    first_divergence: str | None = None
    hazards: list[Hazard] = Field(default_factory=list)
    calibration: dict[str, Any] | None = None
    latency: dict[str, Any] | None = None
    artifact: ArtifactReport | None = None
    timings: dict[str, float] = Field(default_factory=dict)
    toolchain: dict[str, str] = Field(default_factory=dict)
    sandbox: str = "none"
    options: dict[str, Any] = Field(default_factory=dict)

    def to_json(self, indent: int | None = 2) -> str:
        """The published form (`schema` first, aliases used)."""
        return self.model_dump_json(by_alias=True, indent=indent)


class Inspection(_Part):
    """What `inspect` tells without converting: a checkpoint with no graph at all is enough."""

    schema_: Literal["bnfold.inspection/1"] = Field(default="bnfold.inspection/1", alias="schema")
    model_config = ConfigDict(extra="forbid", populate_by_name=True, ser_json_inf_nan="strings")

    format: str
    framework: str
    digest: str = ""
    signatures: dict[str, dict[str, list[TensorInfo]]] = Field(default_factory=dict)
    inputs: list[TensorInfo] = Field(default_factory=list)
    outputs: list[TensorInfo] = Field(default_factory=list)
    input_candidates: list[TensorInfo] = Field(default_factory=list)
    output_candidates: list[TensorInfo] = Field(default_factory=list)
    batch_norms: list[NormReport] = Field(default_factory=list)
    assumptions: list[Assumption] = Field(default_factory=list)
    variables: int | None = None
    parameters: int | None = None
    notes: list[str] = Field(default_factory=list)

    def to_json(self, indent: int | None = 2) -> str:
        """The published form."""
        return self.model_dump_json(by_alias=True, indent=indent)
