"""Blobs as responses: strong ETag, one Range, If-Range, Repr-Digest (RFC 9530), immutable, HEAD."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Mapping

from fastapi import Request
from fastapi.concurrency import iterate_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse

from service.errors import PreconditionFailed, RangeUnsatisfiable
from service.store.blobs import Blobs

# Forty digits are more than any file has bytes: such a range lies outside, it is not malformed.
_RANGE = re.compile(r"\s*bytes\s*=\s*([0-9]{0,40})\s*-\s*([0-9]{0,40})\s*", re.IGNORECASE)


def repr_digest(digest: str) -> str:
    """`sha-256=:<base64>:` of `sha256:<hex>`."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(digest[7:])).decode()}:"


def headers_of(digest: str, size: int, filename: str) -> dict[str, str]:
    """What every answer about these bytes carries."""
    return {
        "ETag": f'"{digest}"',
        "Accept-Ranges": "bytes",
        "Repr-Digest": repr_digest(digest),
        "Content-Length": str(size),
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Disposition": f'attachment; filename="{filename}"',
    }


def serve(
    request: Request, blobs: Blobs, digest: str, size: int, *, media_type: str, filename: str,
    extra: Mapping[str, str] | None = None,
) -> Response:  # fmt: skip
    """200, 206, 304, 412 or 416. The caller has checked rights and the digest.

    Conditions are for GET and HEAD, a Range for GET alone (RFC 9110, 13.1 and 14.2).
    """
    headers = headers_of(digest, size, filename) | dict(extra or {})
    asked = request.headers if request.method in ("GET", "HEAD") else Headers()
    if (wished := asked.get("if-match")) is not None and not _matches(wished, digest, strong=True):
        raise PreconditionFailed(
            "The bytes at this address have another ETag.", details={"etag": f'"{digest}"'}
        )
    if _matches(asked.get("if-none-match"), digest):
        del headers["Content-Length"]
        return Response(status_code=304, headers=headers)
    start, end, status = 0, size, 200
    wanted = asked.get("range") if request.method == "GET" else None
    if wanted is not None and _range_applies(asked.get("if-range"), digest):
        span = parse_range(wanted, size)
        if span is not None:
            start, end = span
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
            headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    body = _pieces(blobs, digest, start, end)
    return StreamingResponse(body, status, headers, media_type=media_type)


async def _pieces(blobs: Blobs, digest: str, start: int, end: int) -> AsyncIterator[memoryview]:
    async for piece in iterate_in_threadpool(blobs.read(digest, start, end)):
        yield piece


def parse_range(value: str, size: int) -> tuple[int, int] | None:
    """`start, end` of a single range; None for what a server may ignore (other units, several, malformed).

    Raises RangeUnsatisfiable when it lies outside.
    """
    match = _RANGE.fullmatch(value)
    if match is None or not (match[1] or match[2]):
        return None
    if match[1]:
        start = int(match[1])
        end = min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    else:
        start, end = max(0, size - int(match[2])), size
    if start >= size or start >= end:
        raise RangeUnsatisfiable(
            f"The range lies outside the {size} bytes there are.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, end


def _matches(header: str | None, digest: str, *, strong: bool = False) -> bool:
    if header is None:
        return False
    tags = re.findall(r'(?:W/)?"[^"]*"', header)
    return header.strip() == "*" or f'"{digest}"' in tags or (not strong and f'W/"{digest}"' in tags)


def _range_applies(if_range: str | None, digest: str) -> bool:
    """If-Range compares strongly; a date is never equal, as nothing here has one."""
    return if_range is None or if_range.strip() == f'"{digest}"'
