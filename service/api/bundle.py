"""Bundles of stored artifacts, as streamed zips; `folding.bundles` says what each kind holds."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from functools import partial
from typing import Any

from fastapi.responses import StreamingResponse
from sqlalchemy import Row

from folding import bundles
from folding.bundles import packing
from folding.bundles.base import Contents, Member
from folding.report import Headline, SourceReport
from service.api import attest, report_forms
from service.errors import NotFound
from service.jobs.model import Job
from service.jobs.results import ZIP
from service.store import references
from service.store.blobs import Blobs
from service.store.db import now
from service.wiring import Services


def response(
    ports: Services, artifact: Row[Any], job: Job, kind: str, name: str, storage_uri: str
) -> StreamingResponse:
    """Return the zip as a stream. Blocks. Raises: UsageError, NotFound for what the kind needs."""
    digest = artifact.digest
    members = bundles.find(kind).members(contents(ports, artifact, job, name, storage_uri))
    headers = {
        "Content-Disposition": f'attachment; filename="{name}-{kind}.zip"',
        "Cache-Control": "private, max-age=31536000, immutable",
    }
    if not storage_uri:
        headers["ETag"] = f'"{digest[7:39]}-{kind}-{name}"'
    return StreamingResponse(packing.stream(members), 200, headers, ZIP)


def contents(ports: Services, artifact: Row[Any], job: Job, name: str, storage_uri: str) -> Contents:
    """Return what a bundle of the artifact, the job's own or its recalibrated one, is made of."""
    report, main = str(job.report_digest), artifact.digest == job.artifact_digest
    size = report_forms.checked_size(ports, report)
    summary = json.loads(report_forms.read(ports, report, "summary"))
    told = summary.get("headline") if main else (summary.get("recalibrated") or {}).get("headline")
    return Contents(
        name=name,
        digest=artifact.digest,
        source=SourceReport.model_validate(summary["source"]),
        headline=Headline.model_validate(told) if told else None,
        model=tuple(model_members(ports.blobs, artifact)),
        report=_blob(ports.blobs, "report.json", report, size),
        card=lambda: report_forms.read(ports, report, "card" if main else "card_recalibrated"),
        attestation=lambda: json.dumps(attest.envelope(ports, job)).encode() if main else None,
        ort=lambda: _ort(ports, report, summary) if main else None,
        storage_uri=storage_uri,
    )


def _ort(ports: Services, report: str, summary: dict[str, Any]) -> tuple[Member, str] | None:
    """Return the artifact in ORT format and its operators. Raises: NotFound where its bytes are gone."""
    if not summary.get("ort_format"):
        return None
    with ports.db.read() as connection:
        found = references.find_rendering(connection, report, references.ORT_FORMAT)
    if found is None:
        raise NotFound("The artifact in ORT format is not in the store any more.", code="artifact_lost")
    ports.verifier.check(found[0], now())
    return _blob(ports.blobs, "model.ort", *found), str(summary["ort_format"]["required_operators"])


def _blob(blobs: Blobs, path: str, digest: str, size: int) -> Member:
    return Member(path, size, lambda: blobs.read(digest))


def model_members(blobs: Blobs, artifact: Row[Any]) -> Iterator[Member]:
    """Yield the model, and its weights where it is a zip of both: taken apart without copying it."""
    if artifact.media_type != ZIP:
        yield _blob(blobs, "model.onnx", artifact.digest, artifact.size)
        return
    path = blobs.path(artifact.digest)
    source: Any = path if path is not None else io.BytesIO(b"".join(blobs.read(artifact.digest)))
    archive = zipfile.ZipFile(source)
    for entry in archive.infolist():
        yield Member(entry.filename, entry.file_size, partial(_pieces, archive, entry))


def _pieces(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[memoryview]:
    with archive.open(entry) as member:
        while piece := member.read(1 << 20):
            yield memoryview(piece)
