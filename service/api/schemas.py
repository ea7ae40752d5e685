"""Bodies of requests and answers. Their examples are checked by the contract tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from folding.options import FoldOptions
from folding.report import Headline, Inspection, NormReport
from service.jobs.model import Job, Kind, State
from service.jobs.turns import Place
from service.releases import NAME_PATTERN
from service.store.ids import DIGEST_PATTERN

EXAMPLE_DIGEST = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
DigestText = Annotated[str, Field(pattern=DIGEST_PATTERN, examples=[EXAMPLE_DIGEST])]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]


def rfc3339(seconds: float) -> str:
    """UTC with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Time = Annotated[
    float,
    PlainSerializer(rfc3339, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ModelRequest(_Body):
    """Names an uploaded blob."""

    digest: DigestText
    filename: str = Field(default="model", max_length=255, description="For people; formats go by content.")
    inspect: bool = Field(default=True, description="Queue an inspection.")


class JobRequest(_Body):
    """What to fold, inspect or verify, by model or by digest."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"input": EXAMPLE_DIGEST, "options": {"opset": 18}}]}
    )

    model: str | None = Field(default=None, max_length=64, description="Id of a model; or `input`.")
    input: DigestText | None = Field(default=None, description="Digest of an uploaded blob; or `model`.")
    filename: str = Field(default="model", max_length=255)
    kind: Kind = Kind.FOLD
    options: FoldOptions = Field(default_factory=FoldOptions)
    calibration: DigestText | None = Field(default=None, description="Blob with an .npz of calibration data.")
    probe: DigestText | None = Field(default=None, description="Blob with an .npz of probe inputs.")
    candidate: DigestText | None = Field(
        default=None, description="With kind `verify`: blob with the ONNX file to compare with the model."
    )
    fresh: bool = Field(default=False, description="Do the work even where the answer is known.")


class JobChange(_Body):
    """What can be changed about a job."""

    name: str | None = Field(max_length=200, description="A name for the job; null takes the file's name.")


class ReleaseRequest(_Body):
    """Where a channel shall point."""

    digest: DigestText
    note: str = Field(default="", max_length=2000)
    accept_unhealthy: bool = Field(
        default=False, description="Release an artifact whose statistics are not healthy."
    )


class WebhookRequest(_Body):
    """Where to send what."""

    url: str = Field(max_length=2000, examples=["https://ci.example.org/hooks/bnfold"])
    events: list[Literal["job.succeeded", "job.rejected", "job.failed", "job.cancelled"]] = Field(
        default_factory=list, max_length=4, description="Empty: all."
    )


class KeyRequest(_Body):
    """A key to create."""

    name: str = Field(default="", max_length=200, description="For people: what uses it.")
    scopes: list[Literal["submit", "read", "admin"]] = Field(
        default=["submit", "read"], min_length=1, max_length=3
    )
    days: int | None = Field(default=None, ge=1, le=3650, description="Days until it expires; null: never.")


class KeyOut(BaseModel):
    """An API key without its secret."""

    id: str
    name: str
    scopes: list[str]
    created_at: Time
    expires_at: Time | None
    expired: bool
    revoked_at: Time | None


class NewKeyOut(KeyOut):
    """A key that was just created."""

    secret: str = Field(description="The whole key, `bnf_<id>.<secret>`; shown once.")


class KeyList(BaseModel):
    """All keys of the tenant."""

    keys: list[KeyOut]


class UsedOut(BaseModel):
    """What was used of a quota; null: no limit."""

    used: int
    limit: int | None


class AccountOut(BaseModel):
    """Who asks, and what the tenant has used."""

    tenant: str
    scopes: list[str]
    key: KeyOut | None = Field(description="The key that was sent; null without one, or with a token.")
    usage: dict[str, UsedOut] = Field(
        description="`running` and `queued` jobs, `stored_bytes`, `upload_bytes` of today (UTC)."
    )


class BlobOut(BaseModel):
    """A stored blob."""

    digest: DigestText
    bytes: int


class RecalibratedOut(BlobOut):
    """The second artifact of a job: with the statistics of the calibration data."""

    verdict: str = Field(description="Whether it is equivalent to the recalibrated source.")
    headline: Headline | None = Field(default=None, description="Verdict and health in one sentence.")


class QueueOut(BaseModel):
    """Where a waiting job stands."""

    position: int = Field(description="1 is next. Tenants take turns; inspections have a lane of their own.")
    estimate_seconds: float | None = Field(description="Until it starts, by what such jobs took lately.")


class JobOut(BaseModel):
    """A job. `links` are paths below the service's root."""

    id: str
    kind: Kind
    state: State
    pool: str
    model: str | None
    filename: str
    name: str = Field(description="What the owner calls the job; else the file's name.")
    input: DigestText
    calibration: DigestText | None
    probe: DigestText | None
    candidate: DigestText | None = Field(
        default=None, description="Of kind `verify`: the ONNX file that is compared with `input`."
    )
    options: dict[str, Any]
    attempt: int
    stage: str | None
    progress: float | None
    message: str | None
    verdict: str | None
    headline: Headline | None = Field(default=None, description="Verdict and health in one sentence.")
    sandbox: str | None
    cached_from: str | None
    error: dict[str, Any] | None = Field(description="code, message, hint, stage, layer, details.")
    artifact: BlobOut | None
    recalibrated: RecalibratedOut | None = Field(
        default=None,
        description="With calibration data, where the stored statistics set inference apart from training.",
    )
    queue: QueueOut | None = Field(default=None, description="While it waits, where one job is asked for.")
    created_at: Time
    updated_at: Time
    started_at: Time | None
    finished_at: Time | None
    links: dict[str, str]

    @staticmethod
    def of(job: Job, place: Place | None = None) -> JobOut:
        """The public face of a row."""
        queue = QueueOut(position=place.position, estimate_seconds=place.seconds) if place else None
        here = f"/v1/jobs/{job.id}"
        links = {"self": here, "events": f"{here}/events"}
        if job.report_digest is not None:
            links["report"] = f"{here}/report"
        artifact = None
        if job.artifact_digest is not None:
            artifact = BlobOut(digest=job.artifact_digest, bytes=job.artifact_bytes or 0)
            links["artifact"] = f"/v1/artifacts/{job.artifact_digest}"
        second = None
        if job.recalibrated_digest is not None:
            second = RecalibratedOut(digest=job.recalibrated_digest, **(job.recalibrated or {}))
            links["recalibrated"] = f"/v1/artifacts/{job.recalibrated_digest}"
        return JobOut(
            id=job.id, kind=job.kind, state=job.state, pool=job.pool, model=job.model_id,
            filename=job.filename, name=job.label or job.filename,
            input=job.input_digest, calibration=job.calibration_digest, probe=job.probe_digest,
            candidate=job.candidate_digest,
            options=job.options, attempt=job.attempt, stage=job.stage, progress=job.progress,
            message=job.message, verdict=job.verdict,
            headline=Headline.model_validate(job.headline) if job.headline else None,
            sandbox=job.sandbox, cached_from=job.cached_from,
            error=job.error, artifact=artifact, recalibrated=second, queue=queue,
            created_at=job.created_at, updated_at=job.updated_at,
            started_at=job.started_at, finished_at=job.finished_at, links=links,
        )  # fmt: skip


class NormPage(BaseModel):
    """Some of a report's batch norms."""

    batch_norms: list[NormReport]
    total: int = Field(description="How many there are.")
    next: int | None = Field(description="`after` of the next page; null at the end.")


class NormTotals(BaseModel):
    """Counts over all batch norms of a model, where only some are shown."""

    total: int
    folded: int
    health: dict[str, int] = Field(description="Layers by health code, without `ok`.")


class ModelOut(BaseModel):
    """A model; `inspection` is there once its job has succeeded."""

    id: str
    digest: DigestText
    filename: str
    created_at: Time
    inspection_job: JobOut | None
    batch_norm_totals: NormTotals | None = Field(
        default=None, description="With `part=summary`, where the inspection shows only some batch norms."
    )
    inspection: Inspection | None


class Page(BaseModel):
    """Part of a list. `next` goes into `page_token`."""

    next: str | None = None


class JobPage(Page):
    """Jobs, newest first."""

    jobs: list[JobOut]


class ModelPage(Page):
    """Models, newest first, without their inspections."""

    models: list[ModelOut]


class ReleaseOut(BaseModel):
    """Where a channel points."""

    name: str
    channel: str
    version: int
    digest: DigestText
    updated_at: Time
    job: str | None = Field(default=None, description="The job that made the artifact.")
    headline: Headline | None = Field(default=None, description="Of that job's report.")
    links: dict[str, str]


class ReleaseList(BaseModel):
    """All releases of the tenant."""

    releases: list[ReleaseOut]


class ReleaseEntry(BaseModel):
    """One move of a channel."""

    version: int
    digest: DigestText
    note: str
    actor: str
    at: Time


class ReleaseHistory(BaseModel):
    """Newest first."""

    history: list[ReleaseEntry]


class WebhookOut(BaseModel):
    """A webhook; its secret is shown when it is made and never again."""

    id: str
    url: str
    events: list[str]
    active: bool
    created_at: Time
    secret: str | None = None


class WebhookList(BaseModel):
    """All webhooks of the tenant."""

    webhooks: list[WebhookOut]


class DeliveryOut(BaseModel):
    """One message and the tries to deliver it."""

    id: str
    event: str
    state: Literal["pending", "delivered", "failed"]
    attempts: int
    log: list[dict[str, Any]]
    created_at: Time


class DeliveryList(BaseModel):
    """Newest first."""

    deliveries: list[DeliveryOut]
