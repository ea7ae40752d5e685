"""Webhooks of a tenant, and the log of what was delivered."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, insert, select, update

from service.errors import NotFound, TooMany
from service.settings import Settings
from service.store import ids, tables
from service.store.db import Database, now
from service.webhooks.secret_box import PREFIX, SecretBox
from service.webhooks.targets import check_target, host_and_port

W, D = tables.webhooks.c, tables.deliveries.c
EVENTS = ("job.succeeded", "job.rejected", "job.failed", "job.cancelled")
MAX_PER_TENANT = 20


@dataclass(frozen=True)
class NewWebhook:
    """A webhook that was just added, the only time with its secret in clear."""

    id: str
    tenant: str
    url: str
    events: list[str]
    secret: str
    active: bool
    created_at: float


@dataclass(frozen=True)
class Webhooks:
    """Use cases of webhooks."""

    db: Database
    settings: Settings
    box: SecretBox

    def create(self, tenant: str, url: str, events: list[str]) -> NewWebhook:
        """Add a webhook; return it with its secret, which is stored encrypted and shown only here.

        The address is checked now and again at each delivery.
        """
        check_target(*host_and_port(url), self.settings.webhook_allow_private)
        secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        webhook_id = ids.new("wh")
        values: dict[str, Any] = {
            "id": webhook_id, "tenant": tenant, "url": url, "events": events or list(EVENTS),
            "secret": self.box.seal(secret, webhook_id), "active": True, "created_at": now(),
        }  # fmt: skip
        with self.db.write() as connection:
            held = connection.execute(select(W.id).where(W.tenant == tenant)).all()
            if len(held) >= MAX_PER_TENANT:
                raise TooMany(f"{MAX_PER_TENANT} webhooks exist already.", hint="Delete one.", retry_after=60)
            connection.execute(insert(tables.webhooks).values(**values))
        return NewWebhook(**(values | {"secret": secret}))

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


def encrypt_old_secrets(db: Database, box: SecretBox) -> int:
    """Encrypt the secrets that an earlier version stored in clear; return how many.

    SQLite's `secure_delete` overwrites the clear text in the file.
    """
    clear = W.secret.not_like(f"{PREFIX}%")
    with db.read() as connection:
        old = connection.execute(select(W.id, W.secret).where(clear)).all()
    if not old:
        return 0
    with db.write() as connection:
        if db.sqlite:
            connection.exec_driver_sql("PRAGMA secure_delete=ON")
        for row in old:
            sealed = box.seal(row.secret, row.id)
            query = update(tables.webhooks).where(W.id == row.id, W.secret == row.secret)
            connection.execute(query.values(secret=sealed))
    return len(old)
