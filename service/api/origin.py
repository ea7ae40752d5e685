"""Decide which host names the service answers to, and which web pages may act through a visitor's browser.

DNS rebinding: a page of another site resolves its own name to this machine; the Host header shows it.
Cross-site requests: a page of another origin (another port of localhost is another origin) sends a request
through the browser; Sec-Fetch-Site and Origin show it. A request with credentials of its own (Authorization,
X-API-Key) does not come from such a page and is not checked for its origin.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from service.errors import Forbidden
from service.settings import Settings

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_DEFAULT_PORTS = {"http": 80, "https": 443}
# Set by proxies. Behind one, every visitor comes from the loopback address.
_PROXIES = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")

Origin = tuple[str, str, int]


def parse_origin(text: str) -> Origin | None:
    """Return (scheme, host, port) of an origin or URL, None for `null` and whatever is none."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, port or _DEFAULT_PORTS[parts.scheme]


def host_of(headers: Headers) -> str:
    """Return the host name of the Host header in lower case, without its port; empty if there is none."""
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


def check_host(scope: Scope, settings: Settings, keys_required: Callable[[], bool]) -> None:
    """Raise Forbidden unless the service answers to the request's Host.

    `keys_required` may read the database; it is called only for names that nothing else allows.
    """
    if known_host(scope, settings) or (not settings.allowed_hosts and keys_required()):
        return
    raise Forbidden(
        f"This service does not answer to the host name {host_of(Headers(scope=scope))[:100]!r}.",
        code="bad_host",
        hint="The operator may add the name to BNFOLD_ALLOWED_HOSTS.",
    )


def known_host(scope: Scope, settings: Settings) -> bool:
    """Return whether the Host is loopback, named by the settings, or the address that was connected to."""
    host = host_of(Headers(scope=scope))
    public = parse_origin(settings.public_url)
    named = {name.lower() for name in settings.allowed_hosts} | ({public[1]} if public else set())
    return host in _LOOPBACK or host in named or _own_address(scope, host)


def _own_address(scope: Scope, host: str) -> bool:
    """Return True for the address that was connected to; a rebinding page sends its own name instead."""
    server = scope.get("server")
    if not server or host != str(server[0]).strip("[]").split("%")[0].lower():
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def check_origin(scope: Scope, settings: Settings) -> None:
    """Raise Forbidden for a request that a page of another origin made without credentials of its own."""
    headers = Headers(scope=scope)
    if "authorization" in headers or "x-api-key" in headers:
        return
    if not same_origin(scope, settings.public_url):
        raise Forbidden(
            "A page of another origin made this request.",
            code="cross_origin",
            hint="Use the service's own pages, or a program that sends no Origin.",
        )


def same_origin(scope: Scope, public_url: str) -> bool:
    """Return whether a page of this service made the request, or no page at all, as far as the browser tells.

    Reading by a click on a link of another page (`Sec-Fetch-Mode: navigate`) is allowed.
    """
    headers, safe = Headers(scope=scope), scope["method"] in SAFE_METHODS
    site = headers.get("sec-fetch-site")
    if site in ("same-site", "cross-site") and not (safe and headers.get("sec-fetch-mode") == "navigate"):
        return False
    if site == "none" and not safe:
        return False
    given = headers.get("origin")
    if given is None or safe:
        return True
    if given == "null" and site == "same-origin":
        return True  # a form of a page whose Referrer-Policy keeps its origin back
    origin = parse_origin(given)
    if origin is None:
        return False
    public, host = parse_origin(public_url), headers.get("host", "")
    if origin == public:
        return True
    if public is not None and parse_origin(f"{public[0]}://{host}") == public:
        return False  # the same name by another scheme
    # A proxy may have ended TLS. The browser itself then vouches for the scheme, by Sec-Fetch-Site.
    schemes = set(_DEFAULT_PORTS) if site == "same-origin" else {str(scope.get("scheme", "http"))}
    return any(origin == parse_origin(f"{scheme}://{host}") for scheme in schemes)


def came_through_proxy(headers: Headers) -> bool:
    """Return whether a proxy forwarded the request, so that its peer address says nothing of the sender."""
    return any(name in headers for name in _PROXIES)
