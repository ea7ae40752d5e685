"""Around every request: an id, security headers, counters, one log line. Pure ASGI."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import telemetry
from service.api import metrics
from service.logs import clean
from service.settings import Settings

log = logging.getLogger("bnfold.access")
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "font-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
SECURITY = {
    b"content-security-policy": CSP.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"x-frame-options": b"DENY",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_STREAMED = ("/v1/blobs/", "/v1/fold", "/v1/uploads")
_QUIET = frozenset({"/livez", "/readyz", "/metrics"})


class BodyGuard:
    """Deadline of every body, and the cap of those that are read whole (FastAPI reads JSON without one)."""

    def __init__(self, scope: Scope, settings: Settings) -> None:
        streamed = scope["path"].startswith(_STREAMED)
        self._left = settings.max_upload_bytes if streamed else settings.max_json_bytes
        self._idle = settings.body_idle_timeout
        self._until = time.monotonic() + settings.body_timeout
        self._done = False

    async def receive(self, receive: Receive) -> Message:
        """The next message; HTTPException 408 or 413."""
        if self._done:  # from here on it only tells of a disconnect
            return await receive()
        try:
            async with asyncio.timeout(max(0.0, min(self._idle, self._until - time.monotonic()))):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, "The body did not come in time.", {"Connection": "close"}) from None
        self._done = not message.get("more_body", False)
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise HTTPException(413, "The body is larger than this route takes.", {"Connection": "close"})
        return message


class Envelope:
    """The middleware."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        request_id = given if _ID.fullmatch(given) else secrets.token_hex(8).encode()
        seen = {"status": 0, "out": 0, "in": 0, "first": 0.0}

        guard = BodyGuard(scope, self._settings)

        async def take() -> Message:
            message = await guard.receive(receive)
            seen["in"] += len(message.get("body", b""))
            return message

        async def give(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"], seen["first"] = message["status"], time.perf_counter() - began
                have = {name.lower() for name, _ in message.get("headers", [])}
                more = [(name, value) for name, value in SECURITY.items() if name not in have]
                if b"cache-control" not in have:
                    more.append((b"cache-control", b"no-store"))
                message["headers"] = [*message.get("headers", []), *more, (b"x-request-id", request_id)]
            elif message["type"] == "http.response.body":
                seen["out"] += len(message.get("body", b""))
            await send(message)

        with telemetry.server_span(scope) as span:
            try:
                await self._app(scope, take, give)
            finally:
                route = _route(scope)
                _count(scope["method"], route, seen)
                span.finish(route, int(seen["status"]))
                if scope["path"] not in _QUIET:
                    log.info(
                        "%s %s %d", scope["method"], clean(scope["path"])[:300], seen["status"],
                        extra={
                            "route": route, "seconds": round(time.perf_counter() - began, 4),
                            "bytes_in": seen["in"], "bytes_out": seen["out"], "request": request_id.decode(),
                        },
                    )  # fmt: skip


def _route(scope: Scope) -> str:
    """The route's pattern, never the path: labels must not grow with the jobs."""
    route = scope.get("route")
    return str(getattr(route, "path", "other"))


def _count(method: str, route: str, seen: dict[str, float]) -> None:
    known = method if method in {"GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS"} else "other"
    metrics.REQUESTS.labels(known, route, str(int(seen["status"]))).inc()
    metrics.SECONDS.labels(route).observe(seen["first"])
    metrics.BYTES.labels("in").inc(seen["in"])
    metrics.BYTES.labels("out").inc(seen["out"])
