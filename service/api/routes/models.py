"""Models: an uploaded blob with a name and an inspection."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from sqlalchemy import Row

from service.api import report_forms
from service.api.deps import Ports, Reader, Submitter, after_token
from service.api.jobs_view import Part, trace_of
from service.api.schemas import JobOut, ModelOut, ModelPage, ModelRequest
from service.jobs.model import Job, State
from service.store import ids
from service.store.db import now
from service.wiring import Services

router = APIRouter(prefix="/v1/models", tags=["models"])
Limit = Annotated[int, Query(ge=1, le=200, description="Most entries of one page.")]
Token = Annotated[str | None, Query(max_length=300, description="`next` of the page before.")]


@router.post("", status_code=201, response_model=ModelOut, summary="Create a model from an uploaded blob")
def create_model(body: ModelRequest, request: Request, ports: Ports, who: Submitter) -> Response:
    """The same digest and file name give the same model. It is inspected unless `inspect` is false."""
    row = ports.models.create(who.tenant, body.digest, body.filename, body.inspect, trace_of(request))
    return whole(ports, row, 201, {"Location": f"/v1/models/{row.id}"})


@router.get("", response_model=ModelPage, summary="List models")
def list_models(ports: Ports, who: Reader, limit: Limit = 50, page_token: Token = None) -> ModelPage:
    """Newest first."""
    rows = ports.models.page(who.tenant, limit=limit + 1, before=after_token(ports, page_token))
    last = rows[limit - 1] if len(rows) > limit else None
    token = ids.page_token(ports.keys.pepper, last.created_at, last.id) if last is not None else None
    return ModelPage(models=[view(row, None) for row in rows[:limit]], next=token)


@router.get("/{model_id}", response_model=ModelOut, summary="Get a model and its inspection")
def get_model(model_id: str, ports: Ports, who: Reader, part: Part = "all") -> Response:
    """The inspection is null until its job has succeeded; `inspection_job` tells how it stands.

    `part=summary` shows at most 600 batch norms; `GET /v1/jobs/{inspection_job}/norms` pages through all.
    """
    row = ports.models.get(who.tenant, model_id)
    return summary(ports, row) if part == "summary" else whole(ports, row)


@router.delete("/{model_id}", status_code=204, summary="Delete a model")
def delete_model(model_id: str, ports: Ports, who: Submitter) -> Response:
    """Its bytes go with the next collection, unless a job needs them."""
    ports.models.delete(who.tenant, model_id)
    return Response(status_code=204)


def view(row: Row[Any], job: Job | None) -> ModelOut:
    """The model as it is listed, without the inspection itself."""
    return ModelOut(
        id=row.id,
        digest=row.digest,
        filename=row.filename,
        created_at=row.created_at,
        inspection_job=JobOut.of(job) if job is not None else None,
        inspection=None,
    )


def whole(
    ports: Services, row: Row[Any], status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """The model with its inspection as it is stored: streamed, since it grows with the model."""
    job = ports.models.inspection(row)
    body, digest = _body(row, job), _inspection_of(job)
    if digest is None:
        return JSONResponse(body, status, headers)
    ports.verifier.check(digest, now())
    body.pop("inspection")
    before, after = (json.dumps(body)[:-1] + ', "inspection": ').encode(), b"}"

    def pieces() -> Iterator[bytes | memoryview]:
        yield before
        yield from ports.blobs.read(digest)
        yield after

    return StreamingResponse(pieces(), status, headers, "application/json")


def summary(ports: Services, row: Row[Any]) -> Response:
    """The model with a bounded part of its inspection."""
    job = ports.models.inspection(row)
    body, digest = _body(row, job), _inspection_of(job)
    if digest is not None:
        found = json.loads(report_forms.read(ports, digest, "summary"))
        body["batch_norm_totals"] = found.pop("batch_norm_totals", None)
        body["inspection"] = found
    return JSONResponse(body)


def _body(row: Row[Any], job: Job | None) -> dict[str, Any]:
    found: dict[str, Any] = view(row, job).model_dump(mode="json")
    return found


def _inspection_of(job: Job | None) -> str | None:
    return job.report_digest if job is not None and job.state is State.SUCCEEDED else None
