"""The service in this process: real SQLite, real folder, a worker that is driven by hand."""

from __future__ import annotations

import hashlib
import json
import secrets
import warnings
from pathlib import Path
from typing import Any

from service.jobs.requests import Submission
from service.jobs.service import Submitted
from service.jobs.worker import Worker
from service.runner.base import JobRunner
from service.runner.memory import MemoryRunner
from service.settings import Settings
from service.store import references
from service.store.blobs import put_bytes
from service.wiring import Services, build

with warnings.catch_warnings():  # starlette wants another httpx for its test client
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient as TestClient


def settings(folder: Path, **more: Any) -> Settings:
    """Fast leases, nothing spawned."""
    base: dict[str, Any] = {"data_dir": folder, "runner": "memory", "spawn_supervisor": False, "lease": 1.0}
    return Settings(**(base | more))


def open_services(folder: Path, **more: Any) -> Services:
    return build(settings(folder, **more))


def worker(services: Services, runner: JobRunner | None = None, name: str = "w1") -> Worker:
    return Worker(
        services.db, services.blobs, runner or MemoryRunner(), services.queue, services.settings, name=name
    )


def upload(services: Services, data: bytes, tenant: str = "default") -> str:
    digest = put_bytes(services.blobs, data)
    with services.db.write() as connection:
        references.add_blob(services.db, connection, tenant, digest, len(data))
    return digest


def orders(**values: Any) -> bytes:
    return json.dumps({"nonce": secrets.token_hex(8)} | values).encode()


def submit(services: Services, data: bytes | None = None, tenant: str = "default", **more: Any) -> Submitted:
    digest = upload(services, orders() if data is None else data, tenant)
    return services.jobs.submit(Submission(tenant, digest, **more))


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
