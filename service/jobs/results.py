"""From what a runner left behind to rows: store the artifact and the report, then move the job, once."""

from __future__ import annotations

import json
import logging
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from folding.errors import InternalError, UnsafeModel
from folding.report import Inspection, Report
from service.jobs import repository
from service.jobs.model import Job, Kind
from service.jobs.transitions import Cause
from service.runner.base import JobOutcome
from service.store import references
from service.store.blobs import Blobs, put_bytes, put_file
from service.store.db import Database

log = logging.getLogger("bnfold.jobs")
ONNX = "application/octet-stream"
ZIP = "application/zip"


@dataclass(frozen=True)
class Made:
    """An artifact in the blob store."""

    digest: str
    size: int
    media_type: str
    published: bool


@dataclass(frozen=True)
class Rendering:
    """A file that belongs to a report, by its form; see `service.store.references.add_rendering`."""

    form: str
    digest: str
    size: int


@dataclass(frozen=True)
class Stored:
    """What is in the blob store already, waiting for the commit that makes it known.

    artifacts: the artifact, then the recalibrated one where there is one.
    renderings: files that live as long as the report.
    """

    cause: Cause
    values: dict[str, Any]
    artifacts: tuple[Made, ...] = ()
    sizes: tuple[tuple[str, int], ...] = ()
    renderings: tuple[Rendering, ...] = ()


def store(blobs: Blobs, job: Job, outcome: JobOutcome) -> Stored:
    """Put the outcome's files into the store. Raises StorageFull, Unavailable."""
    if outcome.report is None:
        raise InternalError("The runner said that it was done and left no report.")
    report = read_report(outcome.report, Inspection if job.kind is Kind.INSPECT else Report)
    if job.kind is Kind.INSPECT:
        data = json.dumps(report, separators=(",", ":")).encode()
        digest = put_bytes(blobs, data)
        found: dict[str, Any] = {"report_digest": digest, "sandbox": outcome.sandbox} | _headline(report)
        found["cost"] = cost(job, outcome, report, len(data))
        return Stored(Cause.PASS, found, sizes=((digest, len(data)),))
    if job.kind is Kind.VERIFY:
        return _compared(blobs, job, outcome, report)
    if outcome.artifact is None:
        raise InternalError("The runner said that it was done and left no artifact.")
    verdict = str(report["verdict"])
    made = _put(blobs, outcome.artifact, verdict)
    report["artifact"] = {"digest": made.digest, "bytes": made.size}
    report["sandbox"] = outcome.sandbox
    report["source"]["digest"] = job.input_digest
    second = _second(blobs, outcome, report)
    renderings = _ort_format(blobs, outcome, report)
    data = json.dumps(report, separators=(",", ":")).encode()
    report_digest = put_bytes(blobs, data)
    artifacts = (made,) if second is None else (made, second)
    stored = sum(each.size for each in (*artifacts, *renderings)) + len(data)
    values: dict[str, Any] = {
        "verdict": verdict,
        "sandbox": outcome.sandbox,
        "artifact_digest": made.digest,
        "artifact_bytes": made.size,
        "recalibrated_digest": second.digest if second is not None else None,
        "recalibrated": _told(report, second) if second is not None else None,
        "report_digest": report_digest,
        **_headline(report),
        "cost": cost(job, outcome, report, stored),
    }
    cause = Cause.PASS if verdict == "pass" else Cause.REJECT
    sizes = [(each.digest, each.size) for each in artifacts]
    return Stored(cause, values, artifacts, (*sizes, (report_digest, len(data))), renderings)


def _compared(blobs: Blobs, job: Job, outcome: JobOutcome, report: dict[str, Any]) -> Stored:
    """The report of a comparison: it makes no artifact, both files were given."""
    verdict = str(report["verdict"])
    report["sandbox"] = outcome.sandbox
    report["source"]["digest"] = job.input_digest
    if report.get("artifact"):
        report["artifact"]["digest"] = job.candidate_digest
    data = json.dumps(report, separators=(",", ":")).encode()
    digest = put_bytes(blobs, data)
    values = {"verdict": verdict, "sandbox": outcome.sandbox, "report_digest": digest, **_headline(report)}
    values["cost"] = cost(job, outcome, report, len(data))
    cause = Cause.PASS if verdict == "pass" else Cause.REJECT
    return Stored(cause, values, sizes=((digest, len(data)),))


def _put(blobs: Blobs, model: Path, verdict: str) -> Made:
    path, media_type = _packed(model)
    digest, size = put_file(blobs, path)
    return Made(digest, size, media_type, published=verdict == "pass")


def _second(blobs: Blobs, outcome: JobOutcome, report: dict[str, Any]) -> Made | None:
    """Store the recalibrated artifact and write its digest into the report; None where there is none."""
    told = report.get("recalibrated")
    if not told or outcome.recalibrated is None:
        report["recalibrated"] = None
        return None
    made = _put(blobs, outcome.recalibrated, str(told["verdict"]))
    told["artifact"] = {"digest": made.digest, "bytes": made.size}
    return made


def _ort_format(blobs: Blobs, outcome: JobOutcome, report: dict[str, Any]) -> tuple[Rendering, ...]:
    """Store the artifact in ORT format and write its digest into the report."""
    told = report.get("ort_format")
    if not told or outcome.ort_format is None:
        report["ort_format"] = None
        return ()
    digest, size = put_file(blobs, outcome.ort_format)
    told["artifact"] = {"digest": digest, "bytes": size}
    return (Rendering(references.ORT_FORMAT, digest, size),)


def _told(report: dict[str, Any], second: Made) -> dict[str, Any]:
    """The column `recalibrated` of a job: what lists and releases say about the second artifact."""
    told = report["recalibrated"]
    return {"bytes": second.size} | {key: told.get(key) for key in ("verdict", "headline")}


def _headline(report: dict[str, Any]) -> dict[str, Any]:
    """The columns that lists show; empty where the runner's version wrote no headline."""
    found = report.get("headline")
    return {"headline": found, "health": found["state"] if found else None}


_SUMS = ("wall_milliseconds", "cpu_milliseconds", "read_bytes", "written_bytes", "stored_bytes")


def cost(
    job: Job, outcome: JobOutcome, report: dict[str, Any] | None = None, stored: int = 0
) -> dict[str, Any]:
    """Return what all attempts of the job used so far, and how many layers have which finding."""
    used = {
        "wall_milliseconds": round(outcome.wall_seconds * 1000),
        "cpu_milliseconds": round(outcome.cpu_seconds * 1000),
        "read_bytes": outcome.read_bytes,
        "written_bytes": outcome.written_bytes,
        "stored_bytes": stored,
    }
    before = job.cost or {}
    norms = (report or {}).get("batch_norms") or []
    codes = Counter(item["code"] for norm in norms for item in norm.get("health") or [])
    codes.pop("ok", None)
    total: dict[str, Any] = {name: int(before.get(name) or 0) + used[name] for name in _SUMS}
    return total | {
        "peak_bytes": max(int(before.get("peak_bytes") or 0), outcome.peak_rss),
        "findings": dict(codes),
    }


def log_cost(job: Job) -> None:
    """Write the one line that says what a job cost, whatever became of it."""
    spent = job.cost or {}
    waited = (job.started_at or job.created_at) - job.created_at
    took = (job.finished_at or job.updated_at) - (job.started_at or job.created_at)
    log.info(
        "job cost",
        extra={
            "job": job.id, "tenant": job.tenant, "kind": job.kind.value, "state": job.state.value,
            "verdict": job.verdict, "code": (job.error or {}).get("code"),
            "cached": job.cached_from is not None,
            "attempt": job.attempt, "queue_seconds": round(max(0.0, waited), 3),
            "seconds": round(max(0.0, took), 3), "cpu_seconds": spent.get("cpu_milliseconds", 0) / 1000,
            "peak_bytes": spent.get("peak_bytes"), "read_bytes": spent.get("read_bytes"),
            "written_bytes": spent.get("written_bytes"), "stored_bytes": spent.get("stored_bytes"),
        },
    )  # fmt: skip


def read_report(path: Path, kind: type[Report] | type[Inspection]) -> dict[str, Any]:
    """The report as JSON, only if it is one: a model that took the runner over may have written anything.

    Raises: UnsafeModel.
    """
    try:
        data = path.read_bytes()
        kind.model_validate_json(data)
        report: dict[str, Any] = json.loads(data)
        json.dumps(report, ensure_ascii=False).encode()  # a lone surrogate could be stored and never sent
    except (ValueError, RecursionError) as error:
        raise UnsafeModel(
            f"The runner left a report that is none ({type(error).__name__}).", code="sandbox_violation",
            hint="No model makes bnfold write this; treat the file as hostile, or report a defect.",
        ) from error  # fmt: skip
    return report


def commit(db: Database, job: Job, stored: Stored) -> Job | None:
    """Publish or quarantine; None when this attempt no longer holds the job: its late result is refused."""
    with db.write() as connection:
        current = repository.load(connection, job.id)
        if current is None or current.attempt != job.attempt or current.done:
            return None
        values = {"progress": 1.0, "stage": None, "message": None} | stored.values
        moved = repository.move(db, connection, current, stored.cause, attempt=job.attempt, **values)
        if moved is None:
            return None
        for digest, size in stored.sizes:
            references.add_blob(db, connection, job.tenant, digest, size)
        report_digest = str(stored.values["report_digest"])
        for each in stored.renderings:
            references.add_rendering(db, connection, report_digest, each.form, each.digest, each.size)
        for made in stored.artifacts:
            state = "published" if made.published else "quarantined"
            references.add_artifact(
                db, connection, job.tenant, made.digest, main=made is stored.artifacts[0],
                size=made.size, state=state, media_type=made.media_type, job_id=job.id,
            )  # fmt: skip
        return moved


def _packed(model: Path) -> tuple[Path, str]:
    """A model with weights beside it becomes one uncompressed zip, always the same bytes."""
    beside = model.with_name(model.name + ".data")
    if not beside.exists():
        return model, ONNX
    packed = model.with_suffix(".zip")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for path in (model, beside):
            entry = zipfile.ZipInfo(path.name, date_time=(1980, 1, 1, 0, 0, 0))
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                while piece := source.read(1 << 22):
                    target.write(piece)
    return packed, ZIP
