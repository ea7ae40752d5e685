"""Models: an uploaded blob with a name and an inspection."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Row

from folding.report import Inspection
from service.api.deps import Ports, Reader, Submitter, after_token
from service.api.jobs_view import trace_of
from service.api.schemas import JobOut, ModelOut, ModelPage, ModelRequest
from service.jobs.model import State
from service.store import ids
from service.store.blobs import read_all
from service.wiring import Services

router = APIRouter(prefix="/v1/models", tags=["models"])
Limit = Annotated[int, Query(ge=1, le=200, description="Most entries of one page.")]
Token = Annotated[str | None, Query(max_length=300, description="`next` of the page before.")]


@router.post("", status_code=201, response_model=ModelOut, summary="Name an uploaded blob")
def create_model(
    body: ModelRequest, request: Request, response: Response, ports: Ports, who: Submitter
) -> ModelOut:
    """The same digest and file name give the same model. It is inspected unless `inspect` is false."""
    row = ports.models.create(who.tenant, body.digest, body.filename, body.inspect, trace_of(request))
    response.headers["Location"] = f"/v1/models/{row.id}"
    return view(ports, row)


@router.get("", response_model=ModelPage, summary="List models")
def list_models(ports: Ports, who: Reader, limit: Limit = 50, page_token: Token = None) -> ModelPage:
    """Newest first."""
    rows = ports.models.page(who.tenant, limit=limit + 1, before=after_token(ports, page_token))
    last = rows[limit - 1] if len(rows) > limit else None
    token = ids.page_token(ports.keys.pepper, last.created_at, last.id) if last is not None else None
    return ModelPage(models=[view(ports, row, whole=False) for row in rows[:limit]], next=token)


@router.get("/{model_id}", response_model=ModelOut, summary="Model and inspection")
def get_model(model_id: str, ports: Ports, who: Reader) -> ModelOut:
    """The inspection is null until its job has succeeded; `inspection_job` tells how it stands."""
    return view(ports, ports.models.get(who.tenant, model_id))


@router.delete("/{model_id}", status_code=204, summary="Forget a model")
def delete_model(model_id: str, ports: Ports, who: Submitter) -> Response:
    """Its bytes go with the next collection, unless a job needs them."""
    ports.models.delete(who.tenant, model_id)
    return Response(status_code=204)


def view(ports: Services, row: Row[Any], *, whole: bool = True) -> ModelOut:
    """The model as it is answered."""
    job = ports.models.inspection(row) if whole else None
    inspection = None
    if job is not None and job.state is State.SUCCEEDED and job.report_digest is not None:
        inspection = Inspection.model_validate_json(read_all(ports.blobs, job.report_digest))
    return ModelOut(
        id=row.id,
        digest=row.digest,
        filename=row.filename,
        created_at=row.created_at,
        inspection_job=JobOut.of(job) if job is not None else None,
        inspection=inspection,
    )
