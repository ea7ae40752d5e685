"""Webhooks: be told when a job has ended."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from sqlalchemy import Row

from service.api.deps import Admin, Ports
from service.api.schemas import DeliveryList, DeliveryOut, WebhookList, WebhookOut, WebhookRequest
from service.webhooks.registry import NewWebhook

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])


@router.post("", status_code=201, response_model=WebhookOut, summary="Create a webhook")
def create_webhook(body: WebhookRequest, response: Response, ports: Ports, who: Admin) -> WebhookOut:
    """Messages are signed as Standard Webhooks asks; the secret is shown here and never again."""
    row = ports.webhooks.create(who.tenant, body.url, list(body.events))
    response.headers["Location"] = f"/v1/webhooks/{row.id}"
    return _view(row, row.secret)


@router.get("", response_model=WebhookList, summary="List webhooks")
def list_webhooks(ports: Ports, who: Admin) -> WebhookList:
    """Oldest first."""
    return WebhookList(webhooks=[_view(row) for row in ports.webhooks.all(who.tenant)])


@router.get("/{webhook_id}", response_model=WebhookOut, summary="Get a webhook")
def get_webhook(webhook_id: str, ports: Ports, who: Admin) -> WebhookOut:
    """Without its secret."""
    return _view(ports.webhooks.get(who.tenant, webhook_id))


@router.delete("/{webhook_id}", status_code=204, summary="Delete a webhook")
def delete_webhook(webhook_id: str, ports: Ports, who: Admin) -> Response:
    """And its delivery log."""
    ports.webhooks.delete(who.tenant, webhook_id)
    return Response(status_code=204)


@router.get(
    "/{webhook_id}/deliveries", response_model=DeliveryList, summary="List the deliveries of a webhook"
)
def list_deliveries(
    webhook_id: str, ports: Ports, who: Admin, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> DeliveryList:
    """Newest first, with every try."""
    rows = ports.webhooks.deliveries(who.tenant, webhook_id, limit)
    return DeliveryList(
        deliveries=[
            DeliveryOut(
                id=row.id, event=row.event, state=row.state, attempts=row.attempts, log=row.log,
                created_at=row.created_at,
            )
            for row in rows
        ]
    )  # fmt: skip


def _view(row: Row[Any] | NewWebhook, secret: str | None = None) -> WebhookOut:
    return WebhookOut(
        id=row.id, url=row.url, events=row.events, active=row.active, created_at=row.created_at,
        secret=secret,
    )  # fmt: skip
