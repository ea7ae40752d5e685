"""What the power is taken from: an API and a worker in one process, below `power_loss.c`.

`python -m tests.process.faults.power_actor JOURNAL ROOT DIE_AT`: works, and notes each acknowledgement.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import secrets
import sys
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx

from service.app import create_app
from service.jobs.requests import Submission
from service.jobs.worker import Worker
from service.runner.memory import MemoryRunner
from service.settings import Settings
from service.wiring import Services, build
from tests.process.faults.actors import digest
from tests.support.in_process import upload

SIZE = 30_000
LIBRARY = ctypes.CDLL(None)


def note(kind: str, **values: Any) -> None:
    """Say in the journal what a client knows by now."""
    LIBRARY.power_loss_note(json.dumps({"kind": kind} | values).encode())


def payload(nonce: str, index: int) -> bytes:
    """Input of the memory runner."""
    return json.dumps({"nonce": nonce, "index": index, "bytes": SIZE}).encode()


async def use(services: Services, nonce: str, artifact: str, secret: str) -> None:
    """Ask for everything that the service acknowledges as kept."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = 2
    transport = httpx.ASGITransport(create_app(services=services))
    headers = {"authorization": f"Bearer {secret}"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://localhost", timeout=60, headers=headers
    ) as client:
        for index in range(3):
            data = payload(nonce, index)
            (await client.put(f"/v1/blobs/{digest(data)}", content=data)).raise_for_status()
            note("blob", digest=digest(data))
            key = f"{nonce}-{index}"
            made = await client.post(
                "/v1/jobs", json={"input": digest(data)}, headers={"idempotency-key": key}
            )
            note("job", id=made.raise_for_status().json()["id"])
        await asyncio.gather(*(both(client, payload(nonce, 10 + index)) for index in range(4)))
        model = await client.post("/v1/models", json={"digest": digest(payload(nonce, 0)), "inspect": False})
        note("model", id=model.raise_for_status().json()["id"])
        await in_parts(client, payload(nonce, 7))
        moved = await client.put(f"/v1/releases/{nonce}/prod", json={"digest": artifact})
        note("release", name=nonce, version=moved.raise_for_status().json()["version"])


async def both(client: httpx.AsyncClient, data: bytes) -> None:
    """Store bytes beside others that do the same."""
    (await client.put(f"/v1/blobs/{digest(data)}", content=data)).raise_for_status()
    note("blob", digest=digest(data))


async def in_parts(client: httpx.AsyncClient, data: bytes) -> None:
    """A resumable upload in two pieces."""
    made = await client.post("/v1/uploads", headers={"upload-length": str(len(data))})
    where, half = made.raise_for_status().headers["location"], len(data) // 2
    for start, end in ((0, half), (half, len(data))):
        headers = {"upload-offset": str(start), "content-type": "application/offset+octet-stream"}
        (await client.patch(where, content=data[start:end], headers=headers)).raise_for_status()
        note("upload", where=where, offset=end, digest=digest(data) if end == len(data) else None)


def work(services: Services, jobs: list[str]) -> None:
    """Run jobs; a job that has ended is acknowledged to whoever looks."""
    worker = Worker(services.db, services.blobs, MemoryRunner(), services.queue, services.settings, name="w")
    for job_id in jobs:
        worker.run(job_id)
        note("ended", id=job_id)


def main(journal: str, root: str, die_at: str) -> None:
    """One life."""
    if LIBRARY.power_loss_open(journal.encode(), root.encode(), ctypes.c_uint64(int(die_at))) != 0:
        raise SystemExit("no journal")
    nonce = f"n{secrets.token_hex(6)}"
    services = build(Settings(data_dir=Path(root) / "data", runner="memory", spawn_supervisor=False))
    first = services.jobs.submit(Submission("default", upload(services, payload(nonce, 100)))).job.id
    note("job", id=first)
    work(services, [first])
    _, secret = services.keys.create("default", "ci", ["read", "submit", "admin"])
    note("key", secret=secret)
    artifact = str(services.jobs.get("default", first).artifact_digest)
    asyncio.run(use(services, nonce, artifact, secret))
    queued = [job.id for job in services.jobs.page("default", limit=50, before=None) if not job.done]
    work(services, queued[1:])  # one waits
    services.collector.run()
    note("end")
    services.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
