"""Bodies as streams: counted, hashed and written as they come, cut at the cap and at the deadline."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from service.auth.principal import Principal
from service.errors import BadRequest, Timeout, TooLarge
from service.store import references
from service.store.blobs import BlobWriter
from service.store.tenants import allowance, charge, room, too_much, within_day
from service.wiring import Services

BUFFER = 1 << 20


async def body_chunks(request: Request, ports: Services) -> AsyncIterator[bytes]:
    """The body as it comes; Timeout when it stalls or takes too long."""
    settings = ports.settings
    loop = asyncio.get_running_loop()
    deadline = loop.time() + settings.body_timeout
    stream = request.stream().__aiter__()
    while True:
        left = min(settings.body_idle_timeout, deadline - loop.time())
        try:
            async with asyncio.timeout(max(0.0, left)):
                yield await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Timeout(
                "The body did not come in time.",
                hint="Large models: PUT in one go on a fast line, or tus uploads that resume.",
                headers={"Connection": "close"},
            ) from None


async def small_body(request: Request, ports: Services) -> bytes:
    """A body of at most `max_json_bytes`."""
    data = bytearray()
    async for piece in body_chunks(request, ports):
        data += piece
        if len(data) > ports.settings.max_json_bytes:
            raise too_large(ports.settings.max_json_bytes)
    return bytes(data)


def too_large(limit: int) -> TooLarge:
    """The error of a body above its cap. The connection ends: the rest is not read."""
    return TooLarge(
        f"The body is larger than {limit} bytes.",
        hint="BNFOLD_MAX_UPLOAD_BYTES raises the cap.",
        details={"limit": limit},
        headers={"Connection": "close"},
    )


def refuse_early(request: Request, limit: int) -> None:
    """A declared length above the cap is refused before a byte is read; a lying one is counted anyway."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large(limit)


class Sink:
    """Buffers pieces of a body into a blob writer, off the event loop, within the tenant's allowance."""

    def __init__(self, writer: BlobWriter, limit: int, allowed: int | None) -> None:
        self.writer = writer
        self._limit, self._allowed = limit, allowed
        self.charged = allowed is None
        self._buffer = bytearray()
        self.taken = 0

    async def feed(self, piece: bytes | memoryview) -> None:
        """Take a piece."""
        self.taken += len(piece)
        if self.taken > self._limit:
            raise too_large(self._limit)
        if self._allowed is not None and self.taken > self._allowed:
            raise too_much()
        self._buffer += piece
        if len(self._buffer) >= BUFFER:
            await self.flush()

    async def flush(self) -> None:
        """Write what is buffered."""
        if self._buffer:
            full, self._buffer = self._buffer, bytearray()
            await run_in_threadpool(self.writer.write, full)


@asynccontextmanager
async def sink(ports: Services, who: Principal) -> AsyncIterator[Sink]:
    """A new blob; aborted unless the block commits it, charged to the tenant either way."""
    allowed = await run_in_threadpool(allowance, ports.db, ports.settings, who.tenant)
    writer = await run_in_threadpool(ports.blobs.writer)
    out = Sink(writer, ports.settings.max_upload_bytes, allowed)
    try:
        yield out
    except BaseException:
        writer.abort()
        raise
    finally:
        if out.taken and not out.charged:
            await run_in_threadpool(charge, ports.db, who.tenant, out.taken)


async def commit_body(ports: Services, who: Principal, out: Sink) -> None:
    """Charge what came; TooMany when others of the tenant have used the day's bytes meanwhile."""
    if out.taken and not out.charged:
        out.charged = True
        used = await run_in_threadpool(charge, ports.db, who.tenant, out.taken)
        await run_in_threadpool(within_day, ports.db, ports.settings, who.tenant, used)


async def keep(ports: Services, who: Principal, out: Sink) -> tuple[str, int, bool]:
    """Commit a filled sink and note it for the tenant: (digest, size, whether it is new to the tenant)."""
    await out.flush()
    await commit_body(ports, who, out)

    def work() -> tuple[str, int, bool]:
        digest = out.writer.commit()
        with ports.db.write() as connection:
            room(ports.db, connection, ports.settings, who.tenant, digest, out.writer.size)
            new = references.add_blob(ports.db, connection, who.tenant, digest, out.writer.size)
        return digest, out.writer.size, new

    return await run_in_threadpool(work)


def parse_json(data: bytes) -> object:
    """JSON or BadRequest."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadRequest("The body is not valid JSON.", code="bad_json") from error


__all__ = [
    "ClientDisconnect",
    "Sink",
    "body_chunks",
    "commit_body",
    "keep",
    "parse_json",
    "refuse_early",
    "sink",
    "small_body",
]
