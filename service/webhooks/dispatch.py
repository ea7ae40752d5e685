"""Sends what is in the outbox: at least once, with growing pauses, signed as Standard Webhooks asks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Row, select, update

from service.auth.keys import load_pepper
from service.errors import ServiceError, Unprocessable
from service.settings import Settings
from service.store import tables
from service.store.db import Database, now
from service.webhooks.secret_box import SecretBox
from service.webhooks.targets import HTTPException, post

log = logging.getLogger("bnfold.webhooks")
D, W = tables.deliveries.c, tables.webhooks.c
SENDERS = 16
BACKOFF = (5, 30, 120, 600, 1800, 3600, 7200, 14400)


@dataclass(frozen=True)
class Dispatcher:
    """Per worker process; a delivery is taken by moving its `next_at`, so only one sends it.

    Each webhook has at most one message under way: a slow or dead target holds up nobody but itself.
    """

    db: Database
    settings: Settings
    box: SecretBox | None = None  # None: made from the settings' pepper

    def serve(self, stop: threading.Event) -> None:
        """Until `stop`."""
        busy: dict[str, Future[None]] = {}
        with ThreadPoolExecutor(SENDERS, thread_name_prefix="webhook") as pool:
            while not stop.is_set():
                busy = {hook: sent for hook, sent in busy.items() if not sent.done()}
                for row in self._safely(partial(self._due, frozenset(busy))) or ():
                    if row.webhook_id not in busy and len(busy) < SENDERS:
                        send = partial(self._send, row.id, row.next_at)
                        busy[row.webhook_id] = pool.submit(self._safely, send)
                stop.wait(0.05 if busy else 0.5)

    def _safely(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except ServiceError as error:
            log.warning("webhooks put off: %s", error.error_code)
        except Exception:
            log.exception("webhooks failed")
        return None

    def run(self) -> int:
        """Send everything that is due, one after the other; how many."""
        return sum(self._send(row.id, row.next_at) for row in self._due(()))

    def _due(self, busy: Iterable[str]) -> list[Row[Any]]:
        query = select(D.id, D.next_at, D.webhook_id).where(D.state == "pending", D.next_at <= now())
        query = query.where(D.webhook_id.not_in(list(busy))).order_by(D.next_at, D.created_at).limit(200)
        with self.db.read() as connection:
            return list(connection.execute(query))

    def _send(self, delivery_id: str, next_at: float) -> bool:
        with self.db.write() as connection:
            mine = update(tables.deliveries).where(D.id == delivery_id, D.next_at == next_at)
            row = connection.execute(
                mine.values(
                    next_at=now() + 60 + self.settings.webhook_timeout, attempts=D.attempts + 1
                ).returning(*D)
            ).first()
            if row is None:
                return False
            hook = connection.execute(select(tables.webhooks).where(W.id == row.webhook_id)).first()
        if hook is not None:
            self._record(row, self._attempt(row, hook))
        return True

    def _attempt(self, row: Row[Any], hook: Row[Any]) -> dict[str, Any]:
        began = time.monotonic()
        entry: dict[str, Any] = {"at": now(), "status": None, "error": None}
        stamp, body = str(int(now())), row.payload.encode()
        settings = self.settings
        try:
            headers = {
                "content-type": "application/json",
                "user-agent": "bnfold",
                "webhook-id": row.id,
                "webhook-timestamp": stamp,
                "webhook-signature": sign(self._secret(hook), row.id, stamp, body),
            }
            entry["status"] = post(
                hook.url, body, headers, settings.webhook_timeout, settings.webhook_allow_private
            )
        except Unprocessable as error:
            entry["error"] = error.error_code
        except (OSError, HTTPException, ValueError) as error:
            entry["error"] = type(error).__name__
        entry["seconds"] = round(time.monotonic() - began, 3)
        return entry

    def _secret(self, hook: Row[Any]) -> str:
        box = self.box or SecretBox(load_pepper(self.settings))
        return box.open(hook.secret, hook.id)

    def _record(self, row: Row[Any], entry: dict[str, Any]) -> None:
        delivered = entry["status"] is not None and 200 <= entry["status"] < 300
        given_up = row.attempts >= self.settings.webhook_attempts or entry["status"] == 410
        state = "delivered" if delivered else "failed" if given_up else "pending"
        pause = BACKOFF[min(row.attempts, len(BACKOFF)) - 1]
        values = {"state": state, "next_at": now() + pause, "log": [*row.log, entry][-20:]}
        with self.db.write() as connection:
            connection.execute(update(tables.deliveries).where(D.id == row.id).values(**values))


def sign(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """`v1,` + base64(HMAC-SHA256(secret, id.timestamp.body)), https://www.standardwebhooks.com."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
