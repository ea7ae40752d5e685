"""A signed-in browser: its API key travels in a cookie that scripts can't read.

The cookie holds `id.secret` as the person typed it; nothing is stored on the server. For requests that
come from our own pages the middleware hands it on as `Authorization: Bearer`, so that the API knows one
way of authentication only. Other sites' pages get nothing by it: the cookie is SameSite=Strict, and a
browser that says the request came from elsewhere (Sec-Fetch-Site, Origin) is not believed.
"""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

COOKIE = "bnfold_key"
_OWN_SITES = ("same-origin", "none")
_SAFE = ("GET", "HEAD", "OPTIONS")


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


def from_own_page(method: str, headers: Headers) -> bool:
    """Whether a page of this service made the request, as far as the browser tells."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in _OWN_SITES and (site == "same-origin" or method in _SAFE)
    origin = headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc == headers.get("host", "")
    return method in _SAFE


class SessionCookie:
    """ASGI middleware: cookie in, `Authorization: Bearer` out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            key = None if "authorization" in headers else key_of(headers)
            if key is not None and from_own_page(scope["method"], headers):
                scope = dict(scope)
                scope["headers"] = [*scope["headers"], (b"authorization", f"Bearer {key}".encode())]
        await self.app(scope, receive, send)
