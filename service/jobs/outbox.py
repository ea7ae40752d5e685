"""The outbox: deliveries are rows, written in the transaction that ends the job."""

from __future__ import annotations

import json

from sqlalchemy import Connection, select

from service.jobs.model import Job
from service.store import tables
from service.store.db import Database, now

W = tables.webhooks.c


def announce(db: Database, connection: Connection, job: Job) -> None:
    """One delivery per interested webhook; doing it twice for one ending changes nothing."""
    event = f"job.{job.state.value}"
    query = select(W.id, W.events).where(W.tenant == job.tenant, W.active.is_(True))
    for hook in connection.execute(query).all():
        if event not in hook.events:
            continue
        values = {
            "id": f"msg_{hook.id[3:]}{job.id[4:]}_{job.attempt}",
            "webhook_id": hook.id,
            "tenant": job.tenant,
            "event": event,
            "payload": _payload(event, job),
            "state": "pending",
            "attempts": 0,
            "next_at": 0.0,  # at once, whatever the clock does
            "log": [],
            "created_at": now(),
        }
        connection.execute(db.insert(tables.deliveries).values(**values).on_conflict_do_nothing())


def _payload(event: str, job: Job) -> str:
    data = {
        "job": job.id,
        "kind": job.kind.value,
        "state": job.state.value,
        "verdict": job.verdict,
        "artifact": job.artifact_digest,
        "recalibrated": job.recalibrated_digest,
        "input": job.input_digest,
        "error": (job.error or {}).get("code"),
    }
    return json.dumps({"type": event, "timestamp": job.finished_at, "data": data}, separators=(",", ":"))
