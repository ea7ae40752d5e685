"""What routes get handed: the services, and who asks."""

from __future__ import annotations

import time
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Path, Request, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from service.auth.principal import LOCAL, Principal
from service.errors import BadRequest, Forbidden, Unauthorized, Unprocessable
from service.store import ids
from service.wiring import Services

_bearer = HTTPBearer(auto_error=False, description="`bnf_<id>.<secret>`, made by `bnfold keys create`.")
_LOOPBACK = {"localhost", "127.0.0.1", "::1", "testserver"}
KEYS_TTL = 2.0


def services(request: Request) -> Services:
    """The app's services."""
    found: Services = request.app.state.services
    return found


Ports = Annotated[Services, Depends(services)]


def principal(request: Request, ports: Ports, _: Annotated[object, Security(_bearer)] = None) -> Principal:
    """Who asks: the key's tenant, or the local owner while no key exists and only loopback is bound."""
    presented = _presented(request)
    if presented is not None:
        who = ports.keys.check(presented)
    elif _needs_key(request, ports):
        raise Unauthorized(
            "This service needs an API key.",
            hint="Send `Authorization: Bearer bnf_<id>.<secret>`.",
            headers={"WWW-Authenticate": 'Bearer realm="bnfold"'},
        )
    else:
        _only_local_pages(request, ports)
        who = LOCAL
    ports.rates.take(who.tenant)
    return who


def _presented(request: Request) -> str | None:
    header = request.headers.get("authorization")
    if header is not None:
        kind, _, value = header.partition(" ")
        return value.strip() if kind.lower() == "bearer" else "?"
    return request.headers.get("x-api-key")


def _needs_key(request: Request, ports: Services) -> bool:
    if ports.settings.require_keys or not ports.settings.is_loopback:
        return True
    known: tuple[float, bool] = getattr(request.app.state, "keys_exist", (0.0, False))
    if time.monotonic() - known[0] > KEYS_TTL:
        known = (time.monotonic(), ports.keys.any_exist())
        request.app.state.keys_exist = known
    return known[1]


def _only_local_pages(request: Request, ports: Services) -> None:
    """Without keys, a page of another site in the owner's browser must not act in the owner's name."""
    allowed = _LOOPBACK | set(ports.settings.allowed_hosts)
    try:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        host = ""
    if host not in allowed:
        raise Forbidden(f"Host {host[:100]!r} is not served.", code="bad_host", hint="BNFOLD_ALLOWED_HOSTS")
    origin = request.headers.get("origin")
    if origin is not None and request.method not in ("GET", "HEAD", "OPTIONS"):
        try:
            name = urlsplit(origin).hostname
        except ValueError:
            name = None
        if name not in allowed:
            raise Forbidden("Requests of other sites' pages are refused.", code="cross_origin")


def known_query(request: Request) -> None:
    """An option that is misspelt, or put into the address instead of the body, is never passed over."""
    route = request.scope.get("route")
    known = {field.alias for field in route.dependant.query_params} if isinstance(route, APIRoute) else set()
    for each in getattr(getattr(route, "dependant", None), "dependencies", ()):
        known |= {field.alias for field in each.query_params}
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        raise Unprocessable(
            f"query.{unknown[0][:60]}: is not known.",
            code="unknown_option",
            hint=f"Known here: {', '.join(sorted(known)) or 'nothing'}. Options of a fold go into `options`.",
            details={"where": f"query.{unknown[0][:60]}"},
        )


def reader(who: Annotated[Principal, Depends(principal)]) -> Principal:
    """Needs `read`."""
    who.need("read")
    return who


def submitter(who: Annotated[Principal, Depends(principal)]) -> Principal:
    """Needs `submit`."""
    who.need("submit")
    return who


def admin(who: Annotated[Principal, Depends(principal)]) -> Principal:
    """Needs `admin`."""
    who.need("admin")
    return who


Reader = Annotated[Principal, Depends(reader)]
Submitter = Annotated[Principal, Depends(submitter)]
Admin = Annotated[Principal, Depends(admin)]
Digest = Annotated[
    str,
    Path(
        pattern=ids.DIGEST_PATTERN,
        description="`sha256:` and 64 hex digits.",
        examples=["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
    ),
]


def after_token(ports: Services, token: str | None) -> tuple[float, str] | None:
    """Where the page starts; 400 for a token that we did not make."""
    if token is None:
        return None
    found = ids.read_page_token(ports.keys.pepper, token)
    if found is None:
        raise BadRequest("Unknown page token.", code="bad_page_token", hint="Start without a page token.")
    return found
