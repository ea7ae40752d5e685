"""The provenance statement of a job's artifact, signed with this service's key."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from service import provenance
from service.api import report_forms
from service.errors import NotFound
from service.jobs.model import Job
from service.wiring import Services


def envelope(ports: Services, job: Job) -> dict[str, Any]:
    """DSSE envelope around an in-toto statement. Raises NotFound when the job's report is gone."""
    if job.report_digest is None:
        raise NotFound("The job has no report any more.", code="no_report")
    found = json.loads(report_forms.read(ports, job.report_digest, "statement"))
    statement, invocation = found["statement"], job.cached_from or job.id
    finished = datetime.fromtimestamp(job.finished_at, UTC) if job.finished_at else datetime.now(UTC)
    details = statement["predicate"]["runDetails"]
    details["metadata"] = provenance.run_metadata(invocation, finished, found["seconds"])
    key = provenance.local_key(ports.settings.data_dir.absolute() / "provenance.key")
    return dict(provenance.sign(statement, key))
