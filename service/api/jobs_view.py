"""What several routes do with jobs: wait for the end, hand the report over in the form asked for."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from folding.errors import BnfoldError
from service import telemetry
from service.api import problems, report_forms
from service.errors import NotAcceptable, NotFound
from service.jobs.model import Job, Kind
from service.wiring import Services

# One self-contained file with its style sheet inside, made to be saved and mailed: no script at all.
REPORT_CSP = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; "
    "base-uri 'none'; sandbox allow-popups"
)
# Accept -> kind of folding.report.render; the first entry is the answer to */*.
FORMS = {
    "application/json": "json",
    "text/html": "html",
    "text/markdown": "markdown",
    "application/xml": "junit",
    "text/xml": "junit",
    "application/junit+xml": "junit",
    "text/plain": "text",
}
Part = Annotated[
    Literal["all", "summary"], Query(description="`summary`: a bounded part, as JSON whatever Accept says.")
]
_PREFER = re.compile(r"(?:^|[,;\s])wait\s*=\s*(\d{1,6})")
_ASYNC = re.compile(r"(?:^|[,;\s])respond-async(?=$|[,;\s])")
_TRACE = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def trace_of(request: Request) -> str | None:
    """The request's own span, else a well-formed W3C traceparent that came with it."""
    current = telemetry.current_traceparent()
    if current is not None:
        return current
    value = request.headers.get("traceparent", "")
    return value if _TRACE.fullmatch(value) else None


def prefers_async(request: Request) -> bool:
    """Whether the caller takes 202 for an answer (`Prefer: respond-async`, RFC 7240)."""
    return _ASYNC.search(request.headers.get("prefer", "").lower()) is not None


def prefer_wait(request: Request, default: float, limit: float) -> float:
    """Seconds of `Prefer: wait=N`, within the limit."""
    match = _PREFER.search(request.headers.get("prefer", ""))
    return min(float(match[1]) if match else default, limit)


async def wait_done(ports: Services, tenant: str, job_id: str, seconds: float) -> Job:
    """The job when it has ended, or as it is after that time. Holds no thread meanwhile."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + min(seconds, ports.settings.max_wait)
    ports.changes.start()
    seen = ports.changes.count
    while True:
        job = await run_in_threadpool(ports.jobs.get, tenant, job_id)
        left = deadline - loop.time()
        if job.done or left <= 0 or ports.changes.ending:
            return job
        # One second at most: a change is seen at once, and a missed one costs no more than that.
        seen = await ports.changes.wait_for(job_id, seen, min(left, 1.0))


def failure(job: Job) -> Response:
    """Problem of a job that ended without a published artifact. A job's end is never a 5xx of the service."""
    error = BnfoldError.from_dict(job.error or {"class": "Cancelled", "message": "The job was cancelled."})
    if job.error is None and job.state.value == "rejected":
        error = BnfoldError.from_dict(
            {
                "class": "VerificationFailed",
                "code": "verification_failed",
                "message": f"Not proved equivalent (verdict {job.verdict}); the artifact is quarantined.",
                "hint": f"GET /v1/jobs/{job.id}/report tells why.",
            }
        )
    response = problems.of_error(error, job=job.id)
    if response.status_code >= 500:
        response = problems.of_error(error, status=problems.JOB_STATUS, job=job.id)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return response


async def report_response(ports: Services, job: Job, accept: str, part: str = "all") -> Response:
    """Return the report in the first form of Accept that there is, streamed; `summary` is always JSON."""
    digest = report_of(job)
    media = choose(accept) if job.kind is not Kind.INSPECT and part == "all" else "application/json"
    form = FORMS[media] if part == "all" else part
    headers = {"Vary": "Accept", "ETag": f'"{digest[7:39]}-{form}"'}
    if form == "html":
        headers["Content-Security-Policy"] = REPORT_CSP
    return await report_forms.respond(ports, digest, None if form == "json" else form, media, headers)


def report_of(job: Job) -> str:
    """Return the digest of the job's report. Raises NotFound while there is none."""
    if job.report_digest is None:
        raise NotFound(
            f"The job is {job.state.value} and has no report.",
            code="no_report",
            hint="It comes with the end.",
        )
    return job.report_digest


def choose(accept: str) -> str:
    """Best media type of FORMS by the header's weights; NotAcceptable names them all."""
    best: tuple[float, int, str] | None = None
    for position, (media, weight) in enumerate(_weights(accept or "*/*")):
        for name in FORMS:
            if media in (name, "*/*", name.split("/")[0] + "/*") and weight > 0:
                candidate = (-weight, position, name)
                if best is None or candidate[:2] < best[:2]:
                    best = candidate
    if best is None:
        raise NotAcceptable("No such form of the report.", details={"available": list(FORMS)})
    return best[2]


def _weights(accept: str) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for part in accept.split(",")[:50]:
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                weight = _number(value)
        found.append((media, weight))
    return found


def _number(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0


def view_of(data: Any) -> Any:
    """Bodies of hand-made JSON answers."""
    return data.model_dump(mode="json")
