"""Releases: names and channels that point to artifacts."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Response
from fastapi.responses import JSONResponse
from sqlalchemy import Row

from service.api.deps import Ports, Reader, Submitter
from service.api.jobs_view import view_of
from service.api.schemas import ReleaseEntry, ReleaseHistory, ReleaseList, ReleaseOut, ReleaseRequest
from service.errors import PreconditionFailed
from service.releases import NAME_PATTERN, etag_of

router = APIRouter(prefix="/v1/releases", tags=["releases"])
Name = Annotated[str, Path(pattern=NAME_PATTERN, examples=["resnet50"])]
Channel = Annotated[str, Path(pattern=NAME_PATTERN, examples=["production"])]
IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=2000)]
IfNoneMatch = Annotated[str | None, Header(alias="If-None-Match", max_length=2000)]


@router.get("", response_model=ReleaseList, summary="List releases")
def list_releases(ports: Ports, who: Reader) -> ReleaseList:
    """By name and channel."""
    return ReleaseList(releases=[_view(row, ports) for row in ports.releases.all(who.tenant)])


@router.get("/{name}/{channel}", response_model=ReleaseOut, summary="Get a release")
def get_release(name: Name, channel: Channel, ports: Ports, who: Reader) -> Response:
    """The ETag goes into If-Match of the next PUT."""
    return _response(ports.releases.get(who.tenant, name, channel), 200, ports)


@router.put(
    "/{name}/{channel}",
    response_model=ReleaseOut,
    responses={201: {"model": ReleaseOut, "description": "A new channel."}},
    summary="Create or move a release",
)
def put_release(
    name: Name,
    channel: Channel,
    body: ReleaseRequest,
    ports: Ports,
    who: Submitter,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """An existing channel moves only with If-Match, so that two pipelines cannot overwrite each other.

    An artifact whose statistics are not healthy is released only with `accept_unhealthy`.
    """
    if if_none_match is not None and if_none_match.strip() != "*":
        raise PreconditionFailed("Only `If-None-Match: *` makes sense here.")
    row, new = ports.releases.put(
        who, name, channel, body.digest, note=body.note, if_match=if_match, create=if_none_match is not None,
        accept_unhealthy=body.accept_unhealthy,
    )  # fmt: skip
    return _response(row, 201 if new else 200, ports)


@router.get(
    "/{name}/{channel}/history", response_model=ReleaseHistory, summary="List the history of a release"
)
def get_history(name: Name, channel: Channel, ports: Ports, who: Reader) -> ReleaseHistory:
    """Newest first; to roll back, PUT an older digest."""
    rows = ports.releases.history(who.tenant, name, channel)
    return ReleaseHistory(
        history=[
            ReleaseEntry(version=row.version, digest=row.digest, note=row.note, actor=row.actor, at=row.at)
            for row in rows
        ]
    )


@router.delete("/{name}/{channel}", status_code=204, summary="Delete a release and its history")
def delete_release(
    name: Name, channel: Channel, ports: Ports, who: Submitter, if_match: IfMatch = None
) -> Response:
    """Its artifacts may be collected afterwards."""
    ports.releases.delete(who.tenant, name, channel, if_match)
    return Response(status_code=204)


def _view(row: Row[Any], ports: Ports) -> ReleaseOut:
    here = f"/v1/releases/{row.name}/{row.channel}"
    links = {"self": here, "history": f"{here}/history", "artifact": f"/v1/artifacts/{row.digest}"}
    job, headline = ports.releases.origin(row.tenant, row.digest)
    if job is not None:
        links["job"] = f"/v1/jobs/{job}"
    return ReleaseOut(
        name=row.name, channel=row.channel, version=row.version, digest=row.digest,
        updated_at=row.updated_at, job=job, headline=headline, links=links,
    )  # fmt: skip


def _response(row: Row[Any], status: int, ports: Ports) -> Response:
    headers = {"ETag": etag_of(row.version, row.digest), "Location": f"/v1/releases/{row.name}/{row.channel}"}
    return JSONResponse(view_of(_view(row, ports)), status, headers)
