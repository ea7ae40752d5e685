"""Around every request: an id, security headers, counters, one log line. Pure ASGI."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import telemetry
from service.api import metrics, problems
from service.api.deps import keys_required
from service.api.origin import check_host, check_origin, known_host
from service.errors import ServiceError
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
    b"referrer-policy": b"same-origin",
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


_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]{0,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")
_METHODS_OF_TUS = frozenset({"PATCH", "DELETE", "HEAD"})


class _Answered(Exception):
    """The answer to a HEAD request is complete."""


def _refusal(headers: dict[bytes, bytes]) -> JSONResponse | None:
    """The answer to what no route should have to think of."""
    if not _HOST.fullmatch(headers.get(b"host", b"")):
        return problems.problem("bad_request", 400, "The Host header names no host.")
    coding = headers.get(b"content-encoding", b"identity").strip().lower()
    if coding not in (b"", b"identity"):
        return problems.problem(
            "unsupported_media_type", 415, "Bodies are taken as they are, without a Content-Encoding.",
            headers={"Accept-Encoding": "identity", "Connection": "close"},
            hint="Send the bytes uncompressed; an archive (.zip, .tar.gz) needs no Content-Encoding.",
        )  # fmt: skip
    return None


def _method(scope: Scope, headers: dict[bytes, bytes]) -> str:
    """The method that is meant: tus lets clients behind old proxies name it in a header."""
    given = headers.get(b"x-http-method-override", b"").decode("latin-1").strip().upper()
    if scope["method"] == "POST" and scope["path"].startswith("/v1/uploads/") and given in _METHODS_OF_TUS:
        return given
    return str(scope["method"])


def answered_by_get(scope: Scope, routes: list[BaseRoute]) -> bool:
    """True for HEAD of a path that has a route for GET and none of its own for HEAD."""
    if scope["method"] != "HEAD":
        return False
    if any(route.matches(scope)[0] is Match.FULL for route in routes):
        return False
    return any(route.matches({**scope, "method": "GET"})[0] is Match.FULL for route in routes)


def _relative(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """A redirect to another spelling of the path stays on this host, whatever the Host header said."""
    return [
        (name, b"/" + value.split(b"/", 3)[3].lstrip(b"/"))
        if name == b"location" and value[:4] == b"http"
        else (name, value)
        for name, value in headers
    ]


class RequestMiddleware:
    """The middleware."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = dict(scope["headers"])
        scope = {**scope, "method": _method(scope, headers)}
        bare = answered_by_get(scope, scope["app"].router.routes) if "app" in scope else False
        if bare:
            scope["method"] = "GET"
        given = headers.get(b"x-request-id", b"")
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
                if _draining(scope) and b"connection" not in have:
                    more.append((b"connection", b"close"))
                old = list(message.get("headers", []))
                if message["status"] == 307:
                    old = _relative(old)
                message["headers"] = [*old, *more, (b"x-request-id", request_id)]
            elif message["type"] == "http.response.body":
                seen["out"] += len(message.get("body", b""))
            await send(message)
            if bare and message["type"] == "http.response.start":
                await send({"type": "http.response.body", "body": b""})
                raise _Answered

        with telemetry.server_span(scope) as span:
            try:
                refusal = _refusal(headers) or await self._foreign(scope)
                await (refusal or self._app)(scope, take, give)
            except _Answered:
                pass
            finally:
                route = _route(scope)
                _count("HEAD" if bare else scope["method"], route, seen)
                span.finish(route, int(seen["status"]))
                if scope["path"] not in _QUIET:
                    log.info(
                        "%s %s %d", scope["method"], clean(scope["path"])[:300], seen["status"],
                        extra={
                            "route": route, "seconds": round(time.perf_counter() - began, 4),
                            "bytes_in": seen["in"], "bytes_out": seen["out"], "request": request_id.decode(),
                        },
                    )  # fmt: skip

    async def _foreign(self, scope: Scope) -> JSONResponse | None:
        """Refuse hosts that are not ours, and pages of other origins; all routes and pages alike."""

        def needed() -> bool:
            ports = getattr(scope["app"].state, "services", None)
            return ports is not None and keys_required(scope["app"], ports)

        try:
            if not known_host(scope, self._settings):
                await run_in_threadpool(check_host, scope, self._settings, needed)
            check_origin(scope, self._settings)
        except ServiceError as error:
            return problems.of_error(error)
        return None


def _draining(scope: Scope) -> bool:
    return "app" in scope and getattr(scope["app"].state, "draining", False)


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
