"""What routes get handed: the services, and who asks."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import Depends, FastAPI, Path, Request, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from service.api import metrics
from service.api.origin import came_through_proxy
from service.auth.principal import LOCAL, Principal, looks_like_token
from service.errors import BadRequest, Forbidden, Unauthorized, Unprocessable
from service.store import ids
from service.wiring import Services

_bearer = HTTPBearer(auto_error=False, description="`bnf_<id>.<secret>`, made by `bnfold keys create`.")
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
        who = _known(request, ports, presented)
    elif _needs_key(request, ports):
        raise Unauthorized(
            "This service needs an API key.",
            hint="Send `Authorization: Bearer bnf_<id>.<secret>`.",
            headers={"WWW-Authenticate": 'Bearer realm="bnfold"'},
        )
    else:
        if came_through_proxy(request.headers):
            raise Unauthorized(
                "A proxy forwarded this request, and no API key protects the service.",
                code="proxied_without_key",
                hint="Create a key with `bnfold keys create` before the service is put behind a proxy.",
            )
        who = LOCAL
    ports.rates.take(who.tenant)
    return who


def _known(request: Request, ports: Services, presented: str) -> Principal:
    """Whom the key or token stands for. Wrong ones are counted by address; right ones always pass."""
    try:
        if ports.tokens is not None and looks_like_token(presented):
            return ports.tokens.check(presented)
        return ports.keys.check(presented)
    except (Unauthorized, Forbidden):
        metrics.FAILED_KEYS.inc()
        ports.failed_keys.note(request.client.host if request.client else "")
        raise


def _presented(request: Request) -> str | None:
    header = request.headers.get("authorization")
    if header is not None:
        kind, _, value = header.partition(" ")
        return value.strip() if kind.lower() == "bearer" else "?"
    return request.headers.get("x-api-key")


def _needs_key(request: Request, ports: Services) -> bool:
    return keys_required(request.app, ports)


def keys_required(app: FastAPI, ports: Services) -> bool:
    """Return whether anonymous callers are refused: always so once a key was created, even if none is left.

    Only a yes is remembered, for KEYS_TTL seconds: the first key counts from the very next request on.
    """
    settings = ports.settings
    if settings.require_keys or ports.tokens is not None or not settings.is_loopback:
        return True
    seen: float = getattr(app.state, "keys_seen", -KEYS_TTL)
    if time.monotonic() - seen < KEYS_TTL:
        return True
    if not ports.keys.ever_created():
        return False
    app.state.keys_seen = time.monotonic()
    return True


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


def after_token(ports: Services, token: str | None, sort: str = "") -> tuple[float | str, str] | None:
    """Where the page starts; 400 for a token that we did not make."""
    if token is None:
        return None
    found = ids.read_page_token(ports.keys.pepper, token, sort)
    if found is None:
        raise BadRequest(
            "Unknown page token.",
            code="bad_page_token",
            hint="Start without a page token.",
        )
    return found
