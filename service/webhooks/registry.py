"""Webhooks of a tenant, and the log of what was delivered."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, insert, select

from service.errors import NotFound, TooMany
from service.settings import Settings
from service.store import ids, tables
from service.store.db import Database, now
from service.webhooks.targets import check_target, host_and_port

W, D = tables.webhooks.c, tables.deliveries.c
EVENTS = ("job.succeeded", "job.rejected", "job.failed", "job.cancelled")
MAX_PER_TENANT = 20


@dataclass(frozen=True)
class Webhooks:
    """Use cases of webhooks."""

    db: Database
    settings: Settings

    def create(self, tenant: str, url: str, events: list[str]) -> Row[Any]:
        """A new one, with its secret; the address is checked now and again at each delivery."""
        check_target(*host_and_port(url), self.settings.webhook_allow_private)
        secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        values = {
            "id": ids.new("wh"), "tenant": tenant, "url": url, "events": events or list(EVENTS),
            "secret": secret, "active": True, "created_at": now(),
        }  # fmt: skip
        with self.db.write() as connection:
            held = connection.execute(select(W.id).where(W.tenant == tenant)).all()
            if len(held) >= MAX_PER_TENANT:
                raise TooMany(f"{MAX_PER_TENANT} webhooks exist already.", hint="Delete one.", retry_after=60)
            return connection.execute(insert(tables.webhooks).values(**values).returning(*W)).one()

    def all(self, tenant: str) -> list[Row[Any]]:
        """Oldest first."""
        with self.db.read() as connection:
            query = select(tables.webhooks).where(W.tenant == tenant).order_by(W.created_at, W.id)
            return list(connection.execute(query))

    def get(self, tenant: str, webhook_id: str) -> Row[Any]:
        """One of the tenant's."""
        with self.db.read() as connection:
            query = select(tables.webhooks).where(W.id == webhook_id, W.tenant == tenant)
            row = connection.execute(query).first()
        if row is None:
            raise NotFound(f"No webhook {webhook_id[:60]!r}.")
        return row

    def delete(self, tenant: str, webhook_id: str) -> None:
        """Gone, and its deliveries with it."""
        self.get(tenant, webhook_id)
        with self.db.write() as connection:
            connection.execute(delete(tables.deliveries).where(D.webhook_id == webhook_id))
            connection.execute(delete(tables.webhooks).where(W.id == webhook_id, W.tenant == tenant))

    def deliveries(self, tenant: str, webhook_id: str, limit: int = 50) -> list[Row[Any]]:
        """The delivery log, newest first."""
        self.get(tenant, webhook_id)
        query = select(tables.deliveries).where(D.webhook_id == webhook_id, D.tenant == tenant)
        with self.db.read() as connection:
            return list(connection.execute(query.order_by(D.created_at.desc(), D.id).limit(limit)))
