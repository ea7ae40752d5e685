"""Pages of the account: who is signed in, usage against quota, API keys, webhooks with their deliveries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.web.api_client import Api
from service.web.rendering import formats
from service.web.rendering.templating import render

router = APIRouter(include_in_schema=False)
DELIVERIES = 20  # of each webhook
EVENTS = ("job.succeeded", "job.rejected", "job.failed", "job.cancelled")
SCOPES = ("submit", "read", "admin")
# name in the API -> (title, how the number is written)
USAGE: dict[str, tuple[str, Callable[[Any], str]]] = {
    "running": ("Jobs that run", formats.number),
    "queued": ("Jobs that wait", formats.number),
    "stored_bytes": ("Stored", formats.size),
    "upload_bytes": ("Uploaded today", formats.size),
}


@router.get("/account")
async def account(request: Request) -> Response:
    """Tenant, key, scopes, expiry, usage."""
    async with Api(request) as api:
        found = await api.get("/v1/account")
    rows = []
    for name, (title, words) in USAGE.items():
        used, limit = found["usage"][name]["used"], found["usage"][name]["limit"]
        share = min(1.0, used / limit) if limit else None
        rows.append((title, words(used), words(limit) if limit else "no limit", share))
    return render(request, "account.html", account=found, usage=rows)


@router.get("/keys")
async def keys(request: Request) -> Response:
    """The tenant's keys."""
    async with Api(request) as api:
        found = (await api.get("/v1/keys"))["keys"]
        me = await api.get("/v1/account")
    return render(request, "keys.html", keys=found, own=(me["key"] or {}).get("id"), scopes=SCOPES)


@router.get("/webhooks")
async def webhooks(request: Request) -> Response:
    """The tenant's webhooks, each with its latest deliveries."""
    async with Api(request) as api:
        found = (await api.get("/v1/webhooks"))["webhooks"]
        for row in found:
            path = f"/v1/webhooks/{quote(row['id'], safe='')}/deliveries"
            row["deliveries"] = (await api.get(path, limit=DELIVERIES))["deliveries"]
    return render(request, "webhooks.html", webhooks=found, events=EVENTS)
