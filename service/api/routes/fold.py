"""`POST /v1/fold`: one request, a model in, the artifact out. 504 when it takes longer than you wait."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from folding.errors import TimedOut
from folding.options import FoldOptions
from service.api import files, forms, problems
from service.api import jobs_view as view
from service.api.bodies import body_chunks, keep, refuse_early, sink
from service.api.deps import Ports, Submitter
from service.api.routes.artifacts import find
from service.api.routes.jobs import Key
from service.api.schemas import JobOut
from service.auth.principal import Principal
from service.errors import BadRequest, Unprocessable
from service.jobs.model import Job, State
from service.jobs.requests import Submission
from service.jobs.worker import safe_name
from service.wiring import Services

router = APIRouter(tags=["fold"])
_BINARY = {"type": "string", "format": "binary"}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": _BINARY},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["model"],
                    "properties": {
                        "model": _BINARY,
                        "calibration": _BINARY,
                        "probe": _BINARY,
                        "options": {"type": "string", "description": "FoldOptions as JSON."},
                    },
                }
            },
        },
    }
}
Options = Annotated[str | None, Query(max_length=20_000, description="FoldOptions as JSON.")]


@router.post(
    "/v1/fold",
    response_class=Response,
    responses={
        200: {"description": "The artifact.", "content": {"application/octet-stream": {"schema": _BINARY}}},
        202: {"model": JobOut, "description": "With `Prefer: respond-async` only: look at Location."},
        504: {"model": problems.Problem, "description": "Not finished in time; the same request joins it."},
    },
    openapi_extra=BODY,
    summary="Fold a model and return the artifact",
)
async def fold(
    request: Request,
    ports: Ports,
    who: Submitter,
    key: Key = None,
    options: Options = None,
    filename: Annotated[str, Query(max_length=255)] = "model",
) -> Response:
    """The model as raw body (`curl --data-binary @model`), or as a form with calibration and probe data.

    Waits `Prefer: wait=N` seconds (default 30), then answers 504 with Retry-After and the job in Location;
    the same request sent again joins that job instead of starting another. With `Prefer: respond-async` the
    answer is 202 with the job, at once or after `wait=N`. 200 brings the ONNX file, its digest and verdict in
    headers. A model that cannot be folded, or whose artifact is not equivalent, gives the problem that says
    why.
    """
    refuse_early(request, ports.settings.max_upload_bytes)
    parsed = parse_options(options)  # before the body: a typing error costs no upload
    parts: dict[str, str] = {}
    if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        parts, fields, filename = await forms.receive(request, ports, who, filename)
        parsed = parse_options(fields["options"]) if "options" in fields else parsed
    else:
        async with sink(ports, who) as out:
            async for piece in body_chunks(request, ports):
                await out.feed(piece)
            if not out.taken:
                raise BadRequest("The body is empty.", code="empty_body", hint="Send the model's bytes.")
            parts["model"], _, _ = await keep(ports, who, out)
    ask = Submission(
        tenant=who.tenant,
        input_digest=parts["model"],
        options=parsed,
        filename=safe_name(filename),
        calibration_digest=parts.get("calibration"),
        probe_digest=parts.get("probe"),
        idempotency_key=key,
        join=True,
        trace=view.trace_of(request),
    )
    submitted = await run_in_threadpool(ports.jobs.submit, ask)
    default = 0.0 if view.prefers_async(request) else ports.settings.fold_wait
    seconds = view.prefer_wait(request, default, ports.settings.max_wait)
    job = await view.wait_done(ports, who.tenant, submitted.job.id, seconds)
    return await _answer(request, ports, who, job, submitted.how)


async def _answer(request: Request, ports: Services, who: Principal, job: Job, how: str) -> Response:
    headers = {"Location": f"/v1/jobs/{job.id}", "Bnfold-Cache": how, "Bnfold-Job": job.id}
    if not job.done:
        return unfinished(request, job, headers | {"Retry-After": "1"})
    if job.state is not State.SUCCEEDED or job.artifact_digest is None:
        return view.failure(job)
    row = await run_in_threadpool(find, ports, who, job.artifact_digest, False)
    headers["Bnfold-Verdict"] = str(job.verdict)
    headers["Link"] = f'</v1/jobs/{job.id}/report>; rel="describedby"'
    name = f"{safe_name(job.filename).rsplit('.', 1)[0]}.folded.onnx"
    response = files.serve(
        request, ports.blobs, row.digest, row.size, media_type=row.media_type, filename=name, extra=headers
    )
    # The answer to a POST is nobody's cache entry; the artifact's own address is.
    response.headers["Cache-Control"] = "no-store"
    return response


def unfinished(request: Request, job: Job, headers: dict[str, str]) -> Response:
    """202 for a caller who asked for it; else an error, so that no client takes the job for the artifact."""
    if view.prefers_async(request):
        applied = {"Preference-Applied": "respond-async"}
        return JSONResponse(view.view_of(JobOut.of(job)), 202, headers | applied)
    error = TimedOut(
        f"The job is {job.state} and did not end in time.",
        code="still_running",
        hint="Send the same request again: it joins this job. Or follow Location.",
        details={"job": job.id},
    )
    response = problems.of_error(error, job=job.id)
    response.headers.update(headers)
    return response


def parse_options(text: str | None) -> FoldOptions:
    """JSON of options; 400 for what is no JSON, 422 naming the field for what is no option."""
    if text is None or not text.strip():
        return FoldOptions()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest("`options` is not valid JSON.", code="bad_json") from error
    try:
        return FoldOptions.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"][:6])[:200] or "options"
        unknown = first["type"] == "extra_forbidden"
        raise Unprocessable(
            f"options.{name}: {'is not known' if unknown else first['msg']}.",
            code="unknown_option" if unknown else "invalid",
            hint="GET /v1/capabilities lists the options.",
            details={"where": f"options.{name}"},
        ) from error
