"""`POST /v1/verify`: a source and an ONNX file that any tool made of it in, the report out."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from service.api import forms, problems
from service.api import jobs_view as view
from service.api.bodies import refuse_early
from service.api.deps import Ports, Submitter
from service.api.routes.fold import Options, parse_options, unfinished
from service.api.routes.jobs import Key
from service.api.schemas import JobOut
from service.errors import BadRequest
from service.jobs.model import Kind
from service.jobs.requests import Submission
from service.jobs.worker import safe_name

router = APIRouter(tags=["verify"])
_BINARY = {"type": "string", "format": "binary"}
_TEXT = {"type": "string", "description": "FoldOptions as JSON."}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["model", "artifact"],
                    "properties": {"model": _BINARY, "artifact": _BINARY, "probe": _BINARY, "options": _TEXT},
                }
            }
        },
    }
}


@router.post(
    "/v1/verify",
    response_class=Response,
    responses={
        200: {"description": "The report, whatever its verdict.", "content": {m: {} for m in view.FORMS}},
        202: {"model": JobOut, "description": "With `Prefer: respond-async` only: look at Location."},
        504: {"model": problems.Problem, "description": "Not finished in time; the same request joins it."},
    },
    openapi_extra=BODY,
    summary="Compare an ONNX file with its source",
)
async def verify(
    request: Request, ports: Ports, who: Submitter, key: Key = None, options: Options = None
) -> Response:
    """A form with `model` (the source, any format) and `artifact` (an ONNX file that any tool made of it).

    Answers 200 with the report in the form that Accept asks for, and its verdict in `Bnfold-Verdict`: pass,
    fail or inconclusive, the first value that differs, both graphs, and for each batch norm of the source
    whether it is gone or left, and why. Waiting works as in `POST /v1/fold`.
    """
    refuse_early(request, ports.settings.max_upload_bytes)
    parsed = parse_options(options)  # before the body: a typing error costs no upload
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise BadRequest("Two files are compared: send a form with `model` and `artifact`.", code="bad_form")
    parts, fields, filename = await forms.receive(request, ports, who, "model", forms.COMPARED)
    if "artifact" not in parts:
        raise BadRequest("The form has no `artifact` file.", code="bad_form")
    parsed = parse_options(fields["options"]) if "options" in fields else parsed
    ask = Submission(
        tenant=who.tenant, kind=Kind.VERIFY, input_digest=parts["model"], options=parsed,
        filename=safe_name(filename), probe_digest=parts.get("probe"), candidate_digest=parts["artifact"],
        idempotency_key=key, join=True, trace=view.trace_of(request),
    )  # fmt: skip
    submitted = await run_in_threadpool(ports.jobs.submit, ask)
    default = 0.0 if view.prefers_async(request) else ports.settings.fold_wait
    seconds = view.prefer_wait(request, default, ports.settings.max_wait)
    job = await view.wait_done(ports, who.tenant, submitted.job.id, seconds)
    headers = {"Location": f"/v1/jobs/{job.id}", "Bnfold-Cache": submitted.how, "Bnfold-Job": job.id}
    if not job.done:
        return unfinished(request, job, headers | {"Retry-After": "1"})
    if job.report_digest is None:
        return view.failure(job)
    answer = await view.report_response(ports, job, request.headers.get("accept", "*/*"), "all")
    answer.headers.update(headers | {"Bnfold-Verdict": str(job.verdict), "Cache-Control": "no-store"})
    return answer
