"""The account: who asks, what was used of its quotas, and its API keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import Response

from service.api.deps import Admin, Ports, Reader
from service.api.schemas import AccountOut, KeyList, KeyOut, KeyRequest, NewKeyOut, UsedOut
from service.auth.keys import KeyInfo
from service.errors import Forbidden
from service.store import tenants
from service.store.db import now

router = APIRouter(prefix="/v1", tags=["account"])
KeyId = Annotated[str, Path(max_length=64, examples=["bnf_0123456789abcdefghjk"])]


@router.get("/account", response_model=AccountOut, summary="Get the caller's account")
def get_account(ports: Ports, who: Reader) -> AccountOut:
    """Tenant, scopes, the key that was sent, and usage against quota."""
    mine = f"bnf_{who.key_id}" if who.key_id is not None else None
    key = next((_view(key) for key in ports.keys.list(who.tenant) if key.id == mine), None)
    used = tenants.usage(ports.db, ports.settings, who.tenant)
    return AccountOut(
        tenant=who.tenant,
        scopes=sorted(who.scopes),
        key=key,
        usage={name: UsedOut(used=amount, limit=limit or None) for name, (amount, limit) in used.items()},
    )


@router.get("/keys", response_model=KeyList, summary="List API keys")
def list_keys(ports: Ports, who: Admin) -> KeyList:
    """Those of the tenant, oldest first; never their secrets."""
    return KeyList(keys=[_view(key) for key in ports.keys.list(who.tenant)])


@router.post("/keys", status_code=201, response_model=NewKeyOut, summary="Create an API key")
def create_key(body: KeyRequest, ports: Ports, who: Admin) -> NewKeyOut:
    """The key is shown here and never again. Whoever has no key cannot make the first one: from then on the
    service refuses anonymous callers, which the operator decides with `bnfold keys create`."""
    if who.key_id is None:
        raise Forbidden(
            "Only the holder of an API key can create another one here.",
            code="first_key",
            hint="The operator makes the first with `bnfold keys create`.",
        )
    expires = now() + body.days * 86_400 if body.days is not None else None
    info, key = ports.keys.create(who.tenant, body.name, list(body.scopes), expires)
    return NewKeyOut(**dict(_view(info)), secret=key)


@router.delete("/keys/{key_id}", status_code=204, summary="Revoke an API key")
def revoke_key(key_id: KeyId, ports: Ports, who: Admin) -> Response:
    """It is refused from the next request on."""
    ports.keys.revoke_of(who.tenant, key_id)
    return Response(status_code=204)


def _view(key: KeyInfo) -> KeyOut:
    over = key.expires_at is not None and key.expires_at <= now()
    return KeyOut(
        id=key.id, name=key.name, scopes=list(key.scopes), created_at=key.created_at,
        expires_at=key.expires_at, expired=over, revoked_at=key.revoked_at,
    )  # fmt: skip
