"""What the service tells, as records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from folding import errors as E  # noqa: N812

FINAL = frozenset({"succeeded", "rejected", "failed", "cancelled"})


class _View(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Blob(_View):
    """Digest and size."""

    digest: str
    bytes: int


class Recalibrated(Blob):
    """The second artifact of a job: with the statistics of the calibration data."""

    verdict: str = ""


class Job(_View):
    """A job as the service tells it."""

    id: str
    kind: str
    state: str
    filename: str = ""
    model: str | None = None
    input: str
    options: dict[str, Any] = {}
    attempt: int = 0
    stage: str | None = None
    progress: float | None = None
    message: str | None = None
    verdict: str | None = None
    headline: dict[str, Any] | None = None
    name: str = ""
    sandbox: str | None = None
    cached_from: str | None = None
    error: dict[str, Any] | None = None
    artifact: Blob | None = None
    recalibrated: Recalibrated | None = None
    created_at: str = ""
    started_at: str | None = None
    finished_at: str | None = None

    @property
    def done(self) -> bool:
        """True in a final state."""
        return self.state in FINAL

    def raise_for_state(self) -> None:
        """Raise what the job's end means: ModelError…, VerificationFailed, Cancelled; nothing on success."""
        if self.state == "cancelled":
            raise E.Cancelled("The job was cancelled.", details={"job": self.id})
        if self.state == "rejected":
            raise E.VerificationFailed(f"The verdict is {self.verdict}; the artifact is quarantined.",
                                       details={"job": self.id})  # fmt: skip
        if self.state == "failed":
            raise E.BnfoldError.from_dict(self.error or {})


class Release(_View):
    """Where a channel points; `etag` goes into `if_match`."""

    name: str
    channel: str
    version: int
    digest: str
    updated_at: str = ""
    job: str | None = None
    headline: dict[str, Any] | None = None
    etag: str = ""


@dataclass(frozen=True)
class ServerEvent:
    """One event of a job's stream."""

    seq: int
    type: str
    data: dict[str, Any]
