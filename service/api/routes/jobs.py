"""Jobs: submit, look, wait, follow, cancel, retry, delete, report."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse

from folding.report import HeadlineState
from service.api import jobs_view as view
from service.api import report_forms
from service.api.deps import Ports, Reader, Submitter, after_token
from service.api.routes.models import Limit, Token
from service.api.schemas import JobChange, JobOut, JobPage, JobRequest, NormPage, rfc3339
from service.auth.principal import Principal
from service.errors import BadRequest, NotFound, Unprocessable
from service.jobs.model import Kind, State
from service.jobs.requests import Submission
from service.jobs.service import Submitted
from service.jobs.sorting import Sort, sort_value
from service.jobs.worker import safe_name
from service.store import ids
from service.wiring import Services

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$",
           description="At most one job ever exists for one key of a tenant."),
]  # fmt: skip
Wait = Annotated[
    float, Query(ge=0, le=3600, description="Seconds to wait for the end (capped by the server).")
]
KEEPALIVE = 15.0


@router.post(
    "",
    status_code=202,
    response_model=JobOut,
    responses={200: {"model": JobOut, "description": "Known already: the same key, or the same work."}},
    summary="Create a job",
)
async def create_job(
    body: JobRequest, request: Request, ports: Ports, who: Submitter, key: Key = None
) -> Response:
    """202 with Location and Retry-After; 200 when the answer is known. `Prefer: wait=N` waits for the end."""
    submitted = await run_in_threadpool(submit, ports, who, body, key, view.trace_of(request))
    job = submitted.job
    seconds = view.prefer_wait(request, 0.0, ports.settings.max_wait)
    if seconds and not job.done:
        job = await view.wait_done(ports, who.tenant, job.id, seconds)
    return answer(submitted, JobOut.of(job), done=job.done)


def answer(submitted: Submitted, job: JobOut, *, done: bool) -> Response:
    """The job, with the headers that every submission gets."""
    headers = {"Location": f"/v1/jobs/{job.id}", "Bnfold-Cache": submitted.how}
    if not done:
        headers["Retry-After"] = "1"
    known = done or submitted.how == "replay"
    return JSONResponse(view.view_of(job), 200 if known else 202, headers)


def submit(
    ports: Services, who: Principal, body: JobRequest, key: str | None, trace: str | None
) -> Submitted:
    """Request to use case."""
    if (body.model is None) == (body.input is None):
        raise Unprocessable("Exactly one of `model` and `input` is needed.", code="invalid")
    if (body.kind is Kind.VERIFY) != (body.candidate is not None):
        raise Unprocessable(
            "Kind `verify` needs `candidate`, the ONNX file to compare; other kinds take none.",
            code="invalid",
        )
    digest, filename = body.input, body.filename
    if body.model is not None:
        row = ports.models.get(who.tenant, body.model)
        digest, filename = row.digest, row.filename
    return ports.jobs.submit(
        Submission(
            tenant=who.tenant, input_digest=str(digest), kind=body.kind, options=body.options,
            model_id=body.model, filename=safe_name(filename), calibration_digest=body.calibration,
            probe_digest=body.probe, candidate_digest=body.candidate,
            idempotency_key=key, fresh=body.fresh, trace=trace,
        )
    )  # fmt: skip


@router.get("", response_model=JobPage, summary="List jobs")
def list_jobs(
    ports: Ports,
    who: Reader,
    state: State | None = None,
    kind: Kind | None = None,
    model: Annotated[str | None, Query(max_length=64)] = None,
    verdict: Annotated[str | None, Query(pattern="^(pass|fail|inconclusive)$")] = None,
    health: Annotated[HeadlineState | None, Query(description="State of the headline.")] = None,
    search: Annotated[str | None, Query(max_length=200, description="Part of a name, file or id.")] = None,
    sort: Annotated[Sort, Query(description="`size`: of the artifact, largest first.")] = "newest",
    limit: Limit = 50,
    page_token: Token = None,
) -> JobPage:
    """Filtered, in the order of `sort`."""
    before = after_token(ports, page_token, sort)
    jobs = ports.jobs.page(
        who.tenant, limit=limit + 1, before=before, sort=sort, search=search, state=state, kind=kind,
        model_id=model, verdict=verdict, health=health,
    )  # fmt: skip
    last = jobs[limit - 1] if len(jobs) > limit else None
    token = (
        ids.page_token(ports.keys.pepper, sort_value(last, sort), last.id, sort) if last is not None else None
    )
    return JobPage(jobs=[JobOut.of(job) for job in jobs[:limit]], next=token)


@router.get("/{job_id}", response_model=JobOut, summary="Get a job, or wait for its end")
async def get_job(job_id: str, ports: Ports, who: Reader, wait: Wait = 0.0) -> Response:
    """With `wait`, answers at the end or after that many seconds, whichever is first."""
    job = await view.wait_done(ports, who.tenant, job_id, wait)
    headers = {} if job.done else {"Retry-After": "1"}
    place = await run_in_threadpool(ports.jobs.place, job) if job.state is State.QUEUED else None
    return JSONResponse(view.view_of(JobOut.of(job, place)), 200, headers)


@router.post("/{job_id}:cancel", response_model=JobOut, status_code=202, summary="Cancel a job")
def cancel_job(job_id: str, ports: Ports, who: Submitter, response: Response) -> JobOut:
    """`cancelled` at once while it waits; `stopping` until its worker has killed the runner."""
    job = ports.jobs.cancel(who.tenant, job_id)
    if not job.done:
        response.headers["Retry-After"] = "1"
    return JobOut.of(job)


@router.post("/{job_id}:retry", response_model=JobOut, status_code=202, summary="Retry a job")
def retry_job(job_id: str, ports: Ports, who: Submitter, response: Response) -> JobOut:
    """For failed, cancelled and rejected jobs."""
    response.headers["Retry-After"] = "1"
    return JobOut.of(ports.jobs.retry(who.tenant, job_id))


@router.patch("/{job_id}", response_model=JobOut, summary="Rename a job")
def change_job(job_id: str, body: JobChange, ports: Ports, who: Submitter) -> JobOut:
    """The name is for people: lists show it and find it."""
    label = "".join(c for c in body.name or "" if c.isprintable()).strip() or None
    return JobOut.of(ports.jobs.rename(who.tenant, job_id, label))


@router.delete("/{job_id}", status_code=204, summary="Delete a finished job")
def delete_job(job_id: str, ports: Ports, who: Submitter) -> Response:
    """Refused while it runs, and while a release points to its artifact."""
    ports.jobs.delete(who.tenant, job_id)
    return Response(status_code=204)


@router.get(
    "/{job_id}/report",
    response_class=Response,
    responses={200: {"description": "The report.", "content": {media: {} for media in view.FORMS}}},
    summary="Get the report, in the format of the Accept header",
)
async def get_report(
    job_id: str, request: Request, ports: Ports, who: Reader, part: view.Part = "all"
) -> Response:
    """JSON (`bnfold.report/1`), one self-contained HTML page, Markdown, JUnit or plain words.

    `part=summary` is JSON without graphs and with at most 600 batch norms; where it left some out,
    `batch_norm_totals` counts all of them, and the route `norms` has them page by page.
    """
    job = await run_in_threadpool(ports.jobs.get, who.tenant, job_id)
    return await view.report_response(ports, job, request.headers.get("accept", "*/*"), part)


@router.get("/{job_id}/norms", response_model=NormPage, summary="List the batch norms of a report, in pages")
def list_norms(
    job_id: str,
    ports: Ports,
    who: Reader,
    after: Annotated[int, Query(ge=0, le=2**31, description="Index of the first one; `next` of a page.")] = 0,
    limit: Annotated[int, Query(ge=1, le=300, description="Most entries of one page.")] = 100,
) -> Response:
    """In graph order, of a fold's report or of an inspection."""
    report = view.report_of(ports.jobs.get(who.tenant, job_id))
    page, total = report_forms.norms(ports, report, after, limit)
    more = json.dumps(after + limit if after + limit < total else None)
    body = b'{"batch_norms":%b,"total":%d,"next":%b}' % (page, total, more.encode())
    return Response(body, media_type="application/json")


@router.get(
    "/{job_id}/events",
    response_class=Response,
    responses={
        200: {"description": "Server-sent events.", "content": {"text/event-stream": {}}},
        204: {"description": "The job has ended and everything was sent before: do not reconnect."},
    },
    summary="Stream the events of a job",
)
async def follow_job(
    job_id: str,
    request: Request,
    ports: Ports,
    who: Reader,
    after: Annotated[int | None, Query(ge=0, le=2**31, description="Like Last-Event-ID.")] = None,
) -> Response:
    """Every event from the start, or from Last-Event-ID on, read from the database; then live to the end."""
    seq = _last_seen(request, after)
    job = await run_in_threadpool(ports.jobs.get, who.tenant, job_id)
    if job.done and seq >= job.event_seq:
        return Response(status_code=204)
    seq = min(seq, job.event_seq)  # of another job, or before a restore: what comes now is still sent
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(ports, who.tenant, job_id, seq), 200, headers, "text/event-stream")


def _last_seen(request: Request, after: int | None) -> int:
    given = request.headers.get("last-event-id")
    if given is None or given == "":
        return after or 0
    if not re.fullmatch(r"\d{1,9}", given):
        raise BadRequest("Last-Event-ID is a number.", code="bad_event_id")
    return int(given)


async def _stream(ports: Services, tenant: str, job_id: str, seq: int) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    yield "retry: 1000\n\n"
    ports.changes.start()
    seen, quiet_since = ports.changes.count, loop.time()
    while True:
        rows = await run_in_threadpool(ports.jobs.events, job_id, seq)
        for row in rows:
            seq = row.seq
            data = json.dumps(row.data | {"at": rfc3339(row.at)}, separators=(",", ":"))
            yield f"id: {seq}\nevent: {row.type}\ndata: {data}\n\n"
        if rows:
            quiet_since = loop.time()
            continue
        try:
            job = await run_in_threadpool(ports.jobs.get, tenant, job_id)
        except NotFound:
            return  # deleted while somebody was watching
        if (job.done and seq >= job.event_seq) or ports.changes.ending:
            return  # a follower comes back with Last-Event-ID, to whichever process then answers
        if loop.time() - quiet_since > KEEPALIVE:
            quiet_since = loop.time()
            yield ": still here\n\n"
        seen = await ports.changes.wait_for(job_id, seen, 1.0)
