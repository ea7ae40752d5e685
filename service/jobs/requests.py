"""What a caller asks for, and the key under which identical work is found again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from folding import toolchain
from folding.options import FoldOptions
from service.jobs.model import Kind


@dataclass(frozen=True)
class Submission:
    """One request for work; blobs are named by digest and belong to the tenant already."""

    tenant: str
    input_digest: str
    kind: Kind = Kind.FOLD
    options: FoldOptions = field(default_factory=FoldOptions)
    model_id: str | None = None
    filename: str = "model"
    calibration_digest: str | None = None
    probe_digest: str | None = None
    candidate_digest: str | None = None  # of kind VERIFY alone: the ONNX file to compare
    idempotency_key: str | None = None
    fresh: bool = False  # True: do not answer from the cache
    join: bool = False  # True: identical work that has not ended yet is answered with its job
    trace: str | None = None

    def dumped(self) -> dict[str, Any]:
        """The options as they are kept: only what differs from the defaults."""
        return self.options.model_dump(mode="json", exclude_defaults=True)

    def cache_key(self) -> str:
        """Tenant, bytes, options and toolchain; equal keys mean equal results."""
        return _hash(
            [
                self.tenant,
                self.kind.value,
                self.input_digest,
                self.calibration_digest,
                self.probe_digest,
                self.dumped(),
                toolchain.versions(),
                *self._candidate(),
            ]
        )

    def fingerprint(self) -> str:
        """What an Idempotency-Key stands for: the request without the toolchain."""
        return _hash(
            [
                self.kind.value,
                self.input_digest,
                self.model_id,
                self.calibration_digest,
                self.probe_digest,
                self.dumped(),
                self.fresh,
                *self._candidate(),
            ]
        )

    def _candidate(self) -> list[str]:
        """Nothing for other kinds, so that their keys are those of earlier versions."""
        return [] if self.candidate_digest is None else [self.candidate_digest]


def _hash(value: list[Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
