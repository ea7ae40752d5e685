"""The provenance statement of a job's artifact, signed with this service's key."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from folding.report import Report
from service import provenance
from service.errors import NotFound
from service.jobs.model import Job
from service.store.blobs import read_all
from service.wiring import Services


def envelope(ports: Services, job: Job) -> dict[str, Any]:
    """DSSE envelope around an in-toto statement. Raises NotFound when the job's report is gone."""
    if job.report_digest is None:
        raise NotFound("The job has no report any more.", code="no_report")
    report = Report.model_validate_json(read_all(ports.blobs, job.report_digest))
    finished = datetime.fromtimestamp(job.finished_at, UTC) if job.finished_at is not None else None
    statement = provenance.statement(report, invocation=job.cached_from or job.id, finished=finished)
    key = provenance.local_key(ports.settings.data_dir.absolute() / "provenance.key")
    return dict(provenance.sign(statement, key))
