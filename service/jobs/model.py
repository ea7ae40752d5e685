"""A job as everybody sees it, and the row that it is kept in."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from sqlalchemy import Row


class State(StrEnum):
    """Where a job is. The last four are final."""

    QUEUED = "queued"  # waits for a worker
    RUNNING = "running"  # a worker holds the lease
    STOPPING = "stopping"  # asked to stop; its worker has not confirmed yet
    SUCCEEDED = "succeeded"  # verdict pass: the artifact is published
    REJECTED = "rejected"  # ran to the end, the verdict is not pass: the artifact is quarantined
    FAILED = "failed"  # no artifact; `error` says why
    CANCELLED = "cancelled"  # stopped on request


TERMINAL = frozenset({State.SUCCEEDED, State.REJECTED, State.FAILED, State.CANCELLED})


class Kind(StrEnum):
    """What is done with the model."""

    FOLD = "fold"
    INSPECT = "inspect"
    VERIFY = "verify"  # compare an ONNX file that any tool made with it


@dataclass(frozen=True)
class Job:
    """One row of `jobs`; the fields are the columns."""

    id: str
    tenant: str
    kind: Kind
    state: State
    pool: str
    model_id: str | None
    filename: str
    input_digest: str
    calibration_digest: str | None
    probe_digest: str | None
    options: dict[str, Any]
    cache_key: str
    cached_from: str | None
    attempt: int
    lost_attempts: int
    crashes: int
    lease_owner: str | None
    lease_until: float | None
    not_before: float
    stage: str | None
    progress: float | None
    message: str | None
    event_seq: int
    created_at: float
    updated_at: float
    started_at: float | None
    finished_at: float | None
    verdict: str | None
    headline: dict[str, Any] | None
    health: str | None
    label: str | None
    sandbox: str | None
    error: dict[str, Any] | None
    report_digest: str | None
    artifact_digest: str | None
    artifact_bytes: int | None
    trace: str | None
    cost: dict[str, Any] | None = None
    recalibrated_digest: str | None = None
    recalibrated: dict[str, Any] | None = None
    candidate_digest: str | None = None

    @property
    def artifacts(self) -> list[str]:
        """Return the digests of what the job made: the artifact, then the recalibrated one."""
        return [digest for digest in (self.artifact_digest, self.recalibrated_digest) if digest is not None]

    @property
    def done(self) -> bool:
        """True in a final state."""
        return self.state in TERMINAL

    @staticmethod
    def of(row: Row[Any]) -> Job:
        """From a full row of the table."""
        values = row._mapping
        data = {field.name: values[field.name] for field in fields(Job)}
        return Job(**(data | {"kind": Kind(data["kind"]), "state": State(data["state"])}))
