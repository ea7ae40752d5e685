"""A signed-in browser: its API key travels in a cookie that scripts can't read.

The cookie holds `id.secret` as the person typed it; nothing is stored on the server. For requests that
come from our own pages the middleware hands it on as `Authorization: Bearer`, so that the API knows one
way of authentication only. Other sites' pages get nothing by it: the cookie is SameSite=Strict, and a
browser that says the request came from elsewhere (Sec-Fetch-Site, Origin) is not believed.
"""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.origin import SAFE_METHODS, same_origin

COOKIE = "bnfold_key"


def key_of(headers: Headers) -> str | None:
    """The key in the cookie, or None."""
    jar: SimpleCookie = SimpleCookie()
    try:
        jar.load(headers.get("cookie", ""))
    except CookieError:
        return None
    morsel = jar.get(COOKIE)
    return morsel.value if morsel is not None and _plausible(morsel.value) else None


def _plausible(key: str) -> bool:
    return 0 < len(key) <= 512 and key.isascii() and key.isprintable() and " " not in key


def from_own_page(scope: Scope) -> bool:
    """Return whether a page of this service made the request. A change needs the browser's word for it."""
    headers = Headers(scope=scope)
    if headers.get("sec-fetch-site") in ("same-site", "cross-site"):
        return False  # also by a click: SameSite=Strict sends no cookie either
    vouched = "sec-fetch-site" in headers or "origin" in headers
    return same_origin(scope, _public_url(scope)) and (vouched or scope["method"] in SAFE_METHODS)


def _public_url(scope: Scope) -> str:
    ports = getattr(getattr(scope.get("app"), "state", None), "services", None)
    return str(getattr(getattr(ports, "settings", None), "public_url", ""))


class SessionCookie:
    """ASGI middleware: cookie in, `Authorization: Bearer` out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            key = None if "authorization" in headers else key_of(headers)
            if key is not None and from_own_page(scope):
                scope = dict(scope)
                scope["headers"] = [*scope["headers"], (b"authorization", f"Bearer {key}".encode())]
        await self.app(scope, receive, send)
