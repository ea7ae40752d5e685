"""Errors as RFC 9457 problems: the one place where `folding.errors` and HTTP meet.

`type` is `/problems/<code>` (relative to the service, where the page explains the code), stable for ever.
"""

from __future__ import annotations

import logging
import os
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from folding import errors as E  # noqa: N812  a table of its names follows
from service.errors import EXHAUSTED, STORAGE_FAILED, ServiceError, StorageFull, Unavailable
from service.logs import clean

log = logging.getLogger("bnfold.api")
MEDIA_TYPE = "application/problem+json"

# First match by class wins; ServiceErrors bring their own status.
STATUS: tuple[tuple[type[E.BnfoldError], int], ...] = (
    (E.UsageError, 422),
    (E.UnknownFormat, 415),
    (E.ModelError, 422),
    (E.VerificationFailed, 422),
    (E.Cancelled, 409),
    (E.TimedOut, 504),
    (E.TemporaryFailure, 503),
    (E.InternalError, 500),
    (E.BnfoldError, 500),
)
# A job that ended in one of these is an answer about the model or the job, not a failing server.
JOB_STATUS = 422


# Seconds after which an answer of these may be another one; for errors that do not say it themselves.
RETRY_AFTER = {429: 1, 503: 2, 504: 1, 507: 30}

# FastAPI's words for a JSON body that its parser gave up on.
_UNPARSED = "There was an error parsing the body"


class Problem(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="`/problems/<code>`; the code is stable.", examples=["/problems/not_found"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(description="What was found and what was expected.")
    code: str = Field(description="Stable identifier; `bnfold explain CODE`.", examples=["not_found"])
    stage: str | None = Field(default=None, description="Pipeline stage in which it happened.")
    layer: str | None = Field(default=None, description="Layer, node or variable that is concerned.")
    hint: str | None = Field(default=None, description="What to do.")
    details: dict[str, Any] | None = None
    job: str | None = Field(default=None, description="The job that ended so.")


def problem(
    code: str, status: int, detail: str, *, headers: dict[str, str] | None = None, **more: Any
) -> JSONResponse:
    """The response."""
    body = {
        "type": f"/problems/{code}",
        "title": _title(status),
        "status": status,
        "detail": detail,
        "code": code,
    }
    body |= {name: value for name, value in more.items() if value not in (None, {}, "")}
    response = JSONResponse(body, status, headers, media_type=MEDIA_TYPE)
    if status in RETRY_AFTER:
        response.headers.setdefault("Retry-After", str(RETRY_AFTER[status]))
    return response


def of_error(error: E.BnfoldError, *, status: int | None = None, job: str | None = None) -> JSONResponse:
    """Problem of any error of the tree."""
    headers = None
    if isinstance(error, ServiceError):
        status, headers = status or error.status, error.headers
    status = status or next(number for cls, number in STATUS if isinstance(error, cls))
    return problem(
        error.error_code, status, error.message,
        headers=headers, stage=error.stage, layer=error.layer, hint=error.hint,
        details=error.details, job=job,
    )  # fmt: skip


def install(app: FastAPI) -> None:
    """Make every error of the app a problem."""

    @app.exception_handler(E.BnfoldError)
    async def known(request: Request, error: E.BnfoldError) -> JSONResponse:
        if of_error(error).status_code >= 500:
            log.error("request failed", extra={"path": request.url.path, "code": error.error_code})
        return of_error(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return _invalid(error)

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        code = {
            404: "not_found",
            405: "method_not_allowed",
            400: "bad_request",
            408: "request_timeout",
            413: "too_large",
        }
        detail = {404: "There is nothing at this path.", 405: "This path does not take this method."}
        number = error.status_code
        if number == 400 and error.detail == _UNPARSED:  # too deep, or a number of thousands of digits
            return problem("bad_json", 400, "The body is not valid JSON.")
        words = detail.get(number, str(error.detail))
        return problem(code.get(number, "http_error"), number, words, headers=dict(error.headers or {}))

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> JSONResponse:
        return problem("request_incomplete", 400, "The connection ended before the body did.")

    @app.exception_handler(OSError)
    async def system(request: Request, error: OSError) -> JSONResponse:
        found = of_system_error(error)
        if found is None:
            return await unknown(request, error)
        log.error("out of a resource", extra={"path": request.url.path, "errno": error.errno})
        return of_error(found)

    @app.exception_handler(MemoryError)
    async def memory(request: Request, error: MemoryError) -> JSONResponse:
        log.error("out of memory", extra={"path": request.url.path})
        return of_error(Unavailable("The service has no memory left for this request.", retry_after=5))

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> JSONResponse:
        log.exception("defect", extra={"path": request.url.path, "kind": type(error).__name__})
        return problem("internal", 500, "The service failed on this request. Its log says more.")


def of_system_error(error: OSError) -> ServiceError | None:
    """Return the temporary error that a failed system call stands for, None for one that names a defect."""
    if error.errno in EXHAUSTED:
        what = os.strerror(error.errno or 0)
        return Unavailable(f"The service has run out of a resource: {what}.", hint="Try again in a moment.",
                           retry_after=5)  # fmt: skip
    if error.errno in STORAGE_FAILED:
        return StorageFull(
            f"The disk cannot be written or read: {os.strerror(error.errno or 0)}.",
            hint="Free space; nothing was acknowledged, try again.",
        )
    return None


def _invalid(error: RequestValidationError) -> JSONResponse:
    found = []
    for item in error.errors()[:20]:
        place = ".".join(str(part) for part in item["loc"][:8])[:200]
        found.append({"where": clean(place), "what": clean(str(item["msg"]))[:300], "kind": item["type"]})
    if any(item["kind"] == "json_invalid" for item in found):
        return problem("bad_json", 400, "The body is not valid JSON.", details={"errors": found})
    first = found[0] if found else {"where": "?", "what": "invalid", "kind": ""}
    code = "unknown_option" if first["kind"] == "extra_forbidden" else "invalid"
    what = "is not known" if code == "unknown_option" else first["what"]
    return problem(code, 422, f"{first['where']}: {what}.", details={"errors": found})


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Checksum Mismatch" if status == 460 else "Error"


_SCHEMA = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "Problem (RFC 9457)", "content": _SCHEMA},
    "5XX": {"description": "Problem (RFC 9457)", "content": _SCHEMA},
}
