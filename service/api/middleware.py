"""Around every request: an id, security headers, counters, one log line. Pure ASGI."""

from __future__ import annotations

import logging
import re
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import telemetry
from service.api import metrics
from service.logs import clean

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
_QUIET = frozenset({"/livez", "/readyz", "/metrics"})


class Envelope:
    """The middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        request_id = given if _ID.fullmatch(given) else secrets.token_hex(8).encode()
        seen = {"status": 0, "out": 0, "in": 0, "first": 0.0}

        async def take() -> Message:
            message = await receive()
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
