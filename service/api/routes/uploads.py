"""tus 1.0: uploads that go on after an interruption. Extensions: creation, -with-upload, -defer-length,
checksum, termination, expiration."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from email.utils import formatdate
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy import Row
from starlette.requests import ClientDisconnect

from service.api import files
from service.api.bodies import Sink, body_chunks, commit_body, sink, too_large
from service.api.deps import Ports, Reader, Submitter
from service.auth.principal import Principal
from service.errors import BadRequest, PreconditionFailed, Timeout, UnsupportedMedia
from service.uploads import PART, ChecksumMismatch
from service.wiring import Services

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])
VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,creation-defer-length,checksum,termination,expiration"
ALGORITHMS = {"sha256": hashlib.sha256, "sha1": hashlib.sha1, "md5": hashlib.md5}
OFFSET_TYPE = "application/offset+octet-stream"
_METADATA = re.compile(r"[^\s,]+( [A-Za-z0-9+/=]*)?(,\s*[^\s,]+( [A-Za-z0-9+/=]*)?)*")
Version = Annotated[str | None, Header(alias="Tus-Resumable", max_length=20)]
Length = Annotated[str | None, Header(alias="Upload-Length", pattern=r"^\d{1,18}$")]
Offset = Annotated[str | None, Header(alias="Upload-Offset", pattern=r"^\d{1,18}$")]
Defer = Annotated[str | None, Header(alias="Upload-Defer-Length", pattern="^1$")]
Checksum = Annotated[str | None, Header(alias="Upload-Checksum", max_length=200)]
Metadata = Annotated[str, Header(alias="Upload-Metadata", max_length=4000)]
BODY = {"requestBody": {"content": {OFFSET_TYPE: {"schema": {"type": "string", "format": "binary"}}}}}


@router.options("", response_class=Response, status_code=204, summary="Get upload capabilities")
def options(ports: Ports) -> Response:
    """Version, extensions, limits."""
    return Response(
        status_code=204,
        headers={
            "Tus-Resumable": VERSION,
            "Tus-Version": VERSION,
            "Tus-Extension": EXTENSIONS,
            "Tus-Max-Size": str(ports.settings.max_upload_bytes),
            "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
        },
    )


@router.post("", response_class=Response, status_code=201, openapi_extra=BODY, summary="Create an upload")
async def create_upload(
    request: Request, ports: Ports, who: Submitter, version: Version = None, length: Length = None,
    defer: Defer = None, metadata: Metadata = "", checksum: Checksum = None,
) -> Response:  # fmt: skip
    """`Upload-Length`, or `Upload-Defer-Length: 1`. A body of type offset+octet-stream is taken at once."""
    _check_version(version)
    if (length is None) == (defer is None):
        raise BadRequest("Either Upload-Length or Upload-Defer-Length is needed.", code="bad_upload")
    if metadata and not _METADATA.fullmatch(metadata):
        raise BadRequest("Upload-Metadata is malformed.", code="bad_upload")
    total = int(length) if length is not None else None
    _check_size(ports, total)
    row = await run_in_threadpool(ports.uploads.create, who.tenant, total, metadata)
    offset, digest = 0, None
    if request.headers.get("content-type", "") == OFFSET_TYPE:
        offset, digest = await _receive(request, ports, who, row.id, 0, checksum)
    elif total == 0:
        digest = await run_in_threadpool(ports.uploads.finish, row)
    headers = _headers(row, offset, digest) | {"Location": f"/v1/uploads/{row.id}"}
    return Response(status_code=201, headers=headers)


@router.head("/{upload_id}", response_class=Response, summary="Get the upload offset")
def head_upload(upload_id: str, ports: Ports, who: Reader, version: Version = None) -> Response:
    """`Upload-Offset`, and once it is complete `Bnfold-Digest`: the blob to make a model of."""
    _check_version(version)
    row = ports.uploads.get(who.tenant, upload_id)
    headers = _headers(row, row.offset, row.digest) | {"Cache-Control": "no-store"}
    return Response(status_code=200, headers=headers)


@router.patch(
    "/{upload_id}",
    response_class=Response,
    status_code=204,
    openapi_extra=BODY,
    summary="Append to an upload",
)
async def patch_upload(
    upload_id: str, request: Request, ports: Ports, who: Submitter, version: Version = None,
    offset: Offset = None, length: Length = None, checksum: Checksum = None,
) -> Response:  # fmt: skip
    """Bytes from `Upload-Offset` on. What came before an interruption is kept."""
    _check_version(version)
    if request.headers.get("content-type", "") != OFFSET_TYPE:
        raise UnsupportedMedia(f"PATCH takes {OFFSET_TYPE}.")
    if offset is None:
        raise BadRequest("Upload-Offset is missing.", code="bad_upload")
    row = await run_in_threadpool(ports.uploads.get, who.tenant, upload_id)
    if length is not None:
        _check_size(ports, int(length))
        await run_in_threadpool(ports.uploads.set_length, row, int(length))
    reached, digest = await _receive(request, ports, who, upload_id, int(offset), checksum)
    return Response(status_code=204, headers=_headers(row, reached, digest))


@router.delete("/{upload_id}", response_class=Response, status_code=204, summary="Cancel an upload")
def delete_upload(upload_id: str, ports: Ports, who: Submitter, version: Version = None) -> Response:
    """Its bytes go with the next collection."""
    _check_version(version)
    ports.uploads.delete(who.tenant, upload_id)
    return Response(status_code=204, headers={"Tus-Resumable": VERSION})


async def _receive(
    request: Request, ports: Services, who: Principal, upload_id: str, offset: int, checksum: str | None
) -> tuple[int, str | None]:
    """Take the body; (offset reached, digest when complete)."""
    hasher, wanted = _checksum(checksum)
    row, owner = await run_in_threadpool(ports.uploads.lock, who.tenant, upload_id, offset)
    limit = (row.length if row.length is not None else ports.settings.max_upload_bytes) - offset
    # A part that a checksum speaks of is kept whole or not at all.
    part = PART if hasher is None else limit + 1
    try:
        more = True
        stream = body_chunks(request, ports)
        while more:
            async with sink(ports, who) as out:
                more = await _fill(stream, out, part, limit, hasher)
                if hasher is not None and hasher.digest() != wanted:
                    raise ChecksumMismatch("The bytes do not have the checksum of Upload-Checksum.")
                limit -= out.taken
                if out.taken:
                    await out.flush()
                    await commit_body(ports, who, out)
                    offset = await run_in_threadpool(ports.uploads.add, row, owner, offset, out.writer)
                else:
                    out.writer.abort()
    finally:
        await run_in_threadpool(ports.uploads.unlock, row, owner)
    digest = None
    if row.length is not None and offset == row.length:
        digest = row.digest or await run_in_threadpool(ports.uploads.finish, row)
    return offset, digest


async def _fill(stream: Any, out: Sink, part: int, limit: int, hasher: Any) -> bool:
    """Up to a part's worth; True when more may come. An interruption ends the part, it does not lose it."""
    try:
        async for piece in stream:
            if out.taken + len(piece) > limit:
                raise too_large(limit)
            if hasher is not None:
                hasher.update(piece)
            await out.feed(piece)
            if out.taken >= part:
                return True
    except (ClientDisconnect, Timeout):
        if hasher is not None:
            raise
    return False


def _checksum(header: str | None) -> tuple[Any, bytes]:
    if header is None:
        return None, b""
    name, _, value = header.partition(" ")
    if name not in ALGORITHMS:
        raise BadRequest(
            "Unknown checksum algorithm.", code="bad_upload", details={"known": list(ALGORITHMS)}
        )
    try:
        return ALGORITHMS[name](), base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error) as error:
        raise BadRequest("Upload-Checksum is no base64.", code="bad_upload") from error


def _check_version(version: str | None) -> None:
    if version is not None and version != VERSION:
        raise PreconditionFailed(
            "Only tus 1.0.0 is spoken here.", code="tus_version", headers={"Tus-Version": VERSION}
        )


def _check_size(ports: Services, total: int | None) -> None:
    if total is not None and total > ports.settings.max_upload_bytes:
        raise too_large(ports.settings.max_upload_bytes)


def _headers(row: Row[Any], offset: int, digest: str | None) -> dict[str, str]:
    headers = {
        "Tus-Resumable": VERSION,
        "Upload-Offset": str(offset),
        "Upload-Expires": formatdate(row.expires_at, usegmt=True),
    }
    if row.length is not None:
        headers["Upload-Length"] = str(row.length)
    else:
        headers["Upload-Defer-Length"] = "1"
    if row.attrs:
        headers["Upload-Metadata"] = row.attrs
    if digest is not None:
        headers |= {"Bnfold-Digest": digest, "Repr-Digest": files.repr_digest(digest)}
    return headers
