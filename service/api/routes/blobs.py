"""Blobs: raw bytes in, by digest."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from service.api import files
from service.api.bodies import body_chunks, keep, refuse_early, sink
from service.api.deps import Digest, Ports, Reader, Submitter
from service.api.schemas import BlobOut
from service.errors import CorruptBlob, NotFound, Unprocessable
from service.store import references
from service.store.db import now

router = APIRouter(prefix="/v1/blobs", tags=["blobs"])
BODY = {"requestBody": {"required": True, "content": {"application/octet-stream": {
    "schema": {"type": "string", "format": "binary"}}}}}  # fmt: skip


@router.put(
    "/{digest}",
    response_model=BlobOut,
    responses={201: {"model": BlobOut, "description": "Stored."}},
    openapi_extra=BODY,
    summary="Upload a blob",
)
async def put_blob(digest: Digest, request: Request, ports: Ports, who: Submitter) -> Response:
    """Raw stream. The bytes must have the digest of the path; 201 is sent when they are durable."""
    refuse_early(request, ports.settings.max_upload_bytes)
    async with sink(ports, who) as out:
        async for piece in body_chunks(request, ports):
            await out.feed(piece)
        await out.flush()
        found = out.writer.digest()
        if found != digest:
            raise Unprocessable(
                f"The {out.writer.size} bytes that came have digest {found}.",
                code="digest_mismatch",
                hint="The body was cut or changed on its way, or the digest is of another file.",
                details={"expected": digest, "found": found, "bytes": out.writer.size},
            )
        _, size, new = await keep(ports, who, out)
    headers = {"Location": f"/v1/blobs/{digest}", "Repr-Digest": files.repr_digest(digest)}
    return JSONResponse({"digest": digest, "bytes": size}, 201 if new else 200, headers)


@router.get(
    "/{digest}",
    response_class=Response,
    responses={200: {"description": "The bytes.", "content": {"application/octet-stream": {}}}},
    summary="Download a blob",
)
async def get_blob(digest: Digest, request: Request, ports: Ports, who: Reader) -> Response:
    """What this tenant has uploaded, checked against the digest; one Range, strong ETag, immutable."""

    def look() -> int:
        with ports.db.read() as connection:
            size = references.require_blob(connection, who.tenant, digest)
        ports.verifier.check(digest, now())
        return size

    size = await run_in_threadpool(look)
    return files.serve(
        request, ports.blobs, digest, size, media_type="application/octet-stream", filename=digest[7:19]
    )


@router.head("/{digest}", response_class=Response, summary="Check that a blob exists")
async def head_blob(digest: Digest, ports: Ports, who: Reader) -> Response:
    """200 with the length when this tenant has stored the bytes and they still have the digest, else 404.

    Damaged bytes are as good as absent: who asks is told to upload again, which replaces them.
    """

    def look() -> int:
        with ports.db.read() as connection:
            size = references.require_blob(connection, who.tenant, digest)
        try:
            ports.verifier.check(digest, now())
        except CorruptBlob as error:
            raise NotFound("The stored bytes are damaged.", code="blob_not_found", hint=error.hint) from error
        return size

    size = await run_in_threadpool(look)
    headers = {"Content-Length": str(size), "ETag": f'"{digest}"', "Repr-Digest": files.repr_digest(digest)}
    return Response(status_code=200, headers=headers, media_type="application/octet-stream")
