"""Stored reports as answers: streamed as they are, or in a form that is made once.

A short report is turned into its form in this process, which costs milliseconds and a few megabytes. A long
one would cost gigabytes and seconds in which nobody else is answered: `service.reports` makes it elsewhere.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator

from fastapi.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.responses import Response, StreamingResponse

from service.errors import NotFound
from service.reports import forms
from service.reports.renderings import Rendering, not_rendered
from service.store.blobs import read_all
from service.store.db import now
from service.wiring import Services

log = logging.getLogger("bnfold.reports")
SHORT = 256 << 10
_INDEX_HEAD = 9  # eight digits and a line end


async def respond(
    ports: Services, report: str, form: str | None, media: str, headers: dict[str, str]
) -> Response:
    """Return the report (`form` None) or a form of it. Raises NotFound, CorruptBlob, Unprocessable."""
    size = await run_in_threadpool(checked_size, ports, report)
    if form is None:
        return _streamed(ports, Rendering(report, size), media, headers)
    if size <= SHORT:
        body = await run_in_threadpool(_make, ports, report, form)
        return Response(body, headers=headers, media_type=media)
    return _streamed(ports, await ports.renderings.find(report, form), media, headers)


def read(ports: Services, report: str, form: str) -> bytes:
    """Return all of a form that does not grow with the model. Blocks."""
    if checked_size(ports, report) <= SHORT:
        return _make(ports, report, form)
    return read_all(ports.blobs, ports.renderings.get(report, form).digest)


def norms(ports: Services, report: str, after: int, limit: int) -> tuple[bytes, int]:
    """Return a JSON list of at most `limit` batch norms from index `after` on, and their total. Blocks."""
    if checked_size(ports, report) <= SHORT:
        every = json.loads(read_all(ports.blobs, report)).get("batch_norms") or []
        page = every[after : after + limit]
        return json.dumps(page, separators=(",", ":")).encode(), len(every)
    lines = ports.renderings.get(report, "norms").digest
    length = int(_bytes(ports, lines, 0, _INDEX_HEAD), 16)
    begin = _INDEX_HEAD + length
    starts: list[int] = json.loads(_bytes(ports, lines, _INDEX_HEAD, begin))
    total = len(starts) - 1
    first, last = min(after, total), min(after + limit, total)
    piece = _bytes(ports, lines, begin + starts[first], begin + starts[last]) if last > first else b""
    return b"[" + b",".join(piece.splitlines()) + b"]", total


def _bytes(ports: Services, digest: str, start: int, end: int) -> bytes:
    return b"".join(ports.blobs.read(digest, start, end))


def _make(ports: Services, report: str, form: str) -> bytes:
    data = read_all(ports.blobs, report)
    try:
        return forms.make(form, data)
    except Exception as error:
        log.exception("a report cannot be rendered", extra={"form": form, "report": report})
        raise not_rendered(form, type(error).__name__) from error


def checked_size(ports: Services, report: str) -> int:
    """Return the size of the stored report. Raises NotFound, CorruptBlob unless it is there and right."""
    ports.verifier.check(report, now())
    stat = ports.blobs.stat(report)
    if stat is None:
        raise NotFound(f"The bytes of {report} are not in the store.", code="blob_missing")
    return stat.size


def _streamed(ports: Services, found: Rendering, media: str, headers: dict[str, str]) -> StreamingResponse:
    async def pieces() -> AsyncIterator[memoryview]:
        async for piece in iterate_in_threadpool(ports.blobs.read(found.digest, 0, found.size)):
            yield piece

    return StreamingResponse(pieces(), 200, headers | {"Content-Length": str(found.size)}, media)
