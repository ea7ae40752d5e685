"""What the API answers, as the templates want it: every field there, the words of a code beside the code."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from folding import errors
from folding.report import Inspection
from service.web import views


def inspection_of(body: Any) -> Inspection | None:
    """The record, or None where there is none or it is of a version that this program does not know."""
    if not body:
        return None
    try:
        return Inspection.model_validate(body)
    except ValidationError:
        return None


def problem_of(error: Any) -> dict[str, Any] | None:
    """A job's error as `problem.html` shows it."""
    if not isinstance(error, dict):
        return None
    code = str(error.get("code") or str(error.get("type") or "").rsplit("/", 1)[-1] or "internal")
    details = error.get("details")
    title, _, _ = views.explained(code) or (code, "", "")
    kind = getattr(errors, str(error.get("class")), None)
    candidates = details.get("candidates") if isinstance(details, dict) else None
    return {
        "code": code,
        "title": title,
        "message": error.get("message") or error.get("detail") or "",
        "hint": error.get("hint"),
        "stage": error.get("stage"),
        "layer": error.get("layer"),
        # The model or the request is at fault: the same again ends the same.
        "again": not (isinstance(kind, type) and issubclass(kind, (errors.ModelError, errors.UsageError))),
        "candidates": [str(item) for item in candidates[:200]] if isinstance(candidates, list) else [],
    }


def download_name(filename: str | None, what: str = "folded") -> str:
    """`model.h5` becomes `model-folded.onnx`; only letters that every file system takes."""
    stem = (filename or "model").rsplit("/", 1)[-1].split(".")[0]
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in stem).strip("-")
    return f"{safe or 'model'}-{what}.onnx"


def job_of(body: dict[str, Any]) -> dict[str, Any]:
    """A job of the API with the fields that templates ask for."""
    artifact = body.get("artifact") or {}
    return body | {
        "filename": body.get("filename") or "model",
        "name": body.get("name") or body.get("filename") or "model",
        "headline": body.get("headline"),
        "health": (body.get("headline") or {}).get("state"),
        "artifact_digest": artifact.get("digest"),
        "artifact_bytes": artifact.get("bytes"),
        "recalibrated": body.get("recalibrated"),
        "queue": body.get("queue"),
    }
