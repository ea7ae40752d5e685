"""What is killed: an API and a worker that do a fixed piece of work and note each acknowledgement.

Run as `python -m tests.process.faults.actors`: everything is imported once, then each line on stdin forks
one child. The child waits for its tracer, works, and writes acknowledgements into a shared mapping: that adds
no system call to those that are counted, and what was noted survives SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import mmap
import os
import struct
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx

from folding.errors import BnfoldError
from folding.report import ArtifactReport, GraphReport, Report, SourceReport, Verdict
from folding.report.headline import headline
from service.app import create_app
from service.errors import ServiceError
from service.jobs.heartbeat import Heartbeat
from service.jobs.worker import Worker
from service.process.supervision import FAULTS, start_thread
from service.runner.base import JobRunner
from service.runner.memory import MemoryRunner
from service.runner.process import ProcessRunner
from service.settings import Settings
from service.wiring import Services, build, build_worker
from tests.process.security.conftest import configured

SIZE = 1 << 16


class Acks:
    """Length-prefixed JSON in a file that both sides map."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), SIZE)
        self._at = 8

    def note(self, kind: str, **values: Any) -> None:
        """Add one; the count at the start is written last."""
        data = json.dumps({"kind": kind} | values).encode()
        self._map[self._at : self._at + 4 + len(data)] = struct.pack("<I", len(data)) + data
        self._at += 4 + len(data)
        self._map[:8] = struct.pack("<Q", self._at)

    @staticmethod
    def fresh(path: Path) -> None:
        """An empty file."""
        path.write_bytes(struct.pack("<Q", 8) + bytes(SIZE - 8))

    @staticmethod
    def read(path: Path) -> list[dict[str, Any]]:
        """Everything noted."""
        data = path.read_bytes()
        (end,) = struct.unpack("<Q", data[:8])
        found, at = [], 8
        while at < end:
            (size,) = struct.unpack("<I", data[at : at + 4])
            found.append(json.loads(data[at + 4 : at + 4 + size]))
            at += 4 + size
        return found


def act(nonce: str, index: int) -> bytes:
    """Input of the processes that `misbehave` runs: they leave an artifact and the report given here."""
    graph = GraphReport(opset=18, nodes_before=2, nodes_after=1, batch_norms_before=1, batch_norms_after=0)
    report = Report(
        verdict=Verdict.PASS, graph=graph, source=SourceReport(format="act", framework="none"),
        artifact=ArtifactReport(digest="", bytes=8), options={}, batch_norms=[],
    )  # fmt: skip
    report.headline = headline(report)
    return f"succeed\n{json.dumps(json.loads(report.to_json()))}\n{nonce} {index}".encode()


def payload(nonce: str, index: int) -> bytes:
    """Input of the memory runner."""
    return json.dumps({"nonce": nonce, "index": index, "bytes": 300_000}).encode()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


async def _api(services: Services, acks: Acks, order: dict[str, Any]) -> None:
    # One thread does all blocking work, so that the tracer's count runs over all of it.
    anyio.to_thread.current_default_thread_limiter().total_tokens = 1
    transport = httpx.ASGITransport(create_app(services=services))
    nonce = order["nonce"]
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as client:
        for index in range(2):
            data = payload(nonce, index)
            (await client.put(f"/v1/blobs/{digest(data)}", content=data)).raise_for_status()
            acks.note("blob", digest=digest(data))
            made = await client.post("/v1/models", json={"digest": digest(data), "inspect": False})
            acks.note("model", id=made.raise_for_status().json()["id"])
            headers = {"idempotency-key": f"{nonce}-{index}"}
            job = await client.post("/v1/jobs", json={"input": digest(data)}, headers=headers)
            acks.note("job", id=job.raise_for_status().json()["id"], key=headers["idempotency-key"])
        await _upload(client, acks, payload(nonce, 7))
        where = f"/v1/releases/{nonce}/prod"
        tag = None
        for _ in range(2):
            headers = {"if-match": tag} if tag else {}
            moved = await client.put(where, json={"digest": order["artifact"]}, headers=headers)
            tag = moved.raise_for_status().headers["etag"]
            acks.note("release", name=nonce, version=moved.json()["version"])
        later = {"prefer": "respond-async, wait=0"}
        other = await client.post("/v1/fold", content=payload(nonce, 8), headers=later)
        found = other.raise_for_status().json()["id"]
        acks.note("job", id=found, key=None)
        (await client.post(f"/v1/jobs/{found}:cancel")).raise_for_status()
        acks.note("cancelled", id=found)


async def _upload(client: httpx.AsyncClient, acks: Acks, data: bytes) -> None:
    made = await client.post("/v1/uploads", headers={"upload-length": str(len(data))})
    where, half = made.raise_for_status().headers["location"], len(data) // 2
    for start, end in ((0, half), (half, len(data))):
        headers = {"upload-offset": str(start), "content-type": "application/offset+octet-stream"}
        (await client.patch(where, content=data[start:end], headers=headers)).raise_for_status()
        acks.note("upload", where=where, offset=end, digest=digest(data) if end == len(data) else None)


def _worker(services: Services, acks: Acks, order: dict[str, Any]) -> None:
    mine = Worker(
        services.db, services.blobs, MemoryRunner(), services.queue, services.settings, name="killed"
    )
    beat = Heartbeat(mine, services.changes)
    beat.start()
    for job_id in order["jobs"]:
        mine.run(job_id)
        acks.note("ran", id=job_id)
    beat.stop()


class _Unheard(Acks):
    """Takes acknowledgements that nobody checks."""

    def __init__(self) -> None:
        pass

    def note(self, kind: str, **values: Any) -> None:
        """Forget it."""


async def _patient_api(services: Services, acks: Acks, order: dict[str, Any]) -> None:
    """The API's work; where a fault ends it, other work in the same process, until that succeeds."""
    try:
        await _api(services, acks, order)
        return
    except (httpx.HTTPStatusError, BnfoldError) as error:
        acks.note("fault", what=str(error)[:300], body=_text(error))
    for index in range(_TRIES):
        try:
            await _api(services, _Unheard(), order | {"nonce": f"{order['nonce']}again{index}"})
        except (httpx.HTTPStatusError, BnfoldError) as error:
            acks.note("fault", what=str(error)[:300], body=_text(error))
            await asyncio.sleep(0.2)
        else:
            acks.note("recovered")
            return


_TRIES = 10
# Roles that are injected with errors: what fails is begun again.
PATIENT = ("patient api", "serve", "runner")
_SERVE_SECONDS = 90.0


def _built(settings: Settings) -> Services:
    """What a process that does not start is: started again, by the guard or by whoever runs the service."""
    for _ in range(_TRIES):
        try:
            return build(settings)
        except (OSError, MemoryError, RuntimeError, ServiceError):
            traceback.print_exc()
            time.sleep(0.1)
    raise AssertionError("the service does not start")


def _text(error: BaseException) -> str:
    response = getattr(error, "response", None)
    return "" if response is None else str(response.text)[:500]


def _serve(services: Services, acks: Acks, order: dict[str, Any], runner: JobRunner) -> None:
    """A whole worker process, with all of its threads, until every job has ended."""
    stop = threading.Event()
    process = build_worker(services, runner)
    thread = start_thread("worker", lambda: process.serve(stop), stop)
    deadline, left = time.monotonic() + _SERVE_SECONDS, list(order["jobs"])
    while left and time.monotonic() < deadline:
        with contextlib.suppress(ServiceError):
            left = [job_id for job_id in left if not services.jobs.get("default", job_id).done]
        time.sleep(0.05)
    acks.note("served", left=left, faults=dict(FAULTS.counts))
    stop.set()
    thread.join(20)
    process.close()


def _process_runner(order: dict[str, Any]) -> ProcessRunner:
    """Return a runner of real, sandboxed processes; one whose start fails is started again."""
    for _ in range(_TRIES):
        runner = ProcessRunner(configured(Path(order["scratch"]), slots=1))
        try:
            runner.start()
        except (OSError, MemoryError, RuntimeError, BnfoldError):
            traceback.print_exc()
            runner.close()
            time.sleep(0.1)
        else:
            return runner
    raise AssertionError("the runner does not start")


def _child(order: dict[str, Any]) -> None:
    sys.stdin.close()
    acks = Acks(Path(order["acks"]))  # before the tracer: its own file is not what is tried
    go = order["go"]
    while not os.path.exists(go):  # the tracer is there
        asyncio.run(asyncio.sleep(0.005))
    settings = Settings(**order["settings"])
    services = _built(settings) if order["role"] in PATIENT else build(settings)
    if order["role"] == "api":
        asyncio.run(_api(services, acks, order))
    elif order["role"] == "patient api":
        asyncio.run(_patient_api(services, acks, order))
    elif order["role"] == "serve":
        _serve(services, acks, order, MemoryRunner())
    elif order["role"] == "runner":
        _serve(services, acks, order, _process_runner(order))
    else:
        _worker(services, acks, order)
    acks.note("end")


def main() -> None:
    """Fork one child per line; answer with its pid, then with its end."""
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                _child(order)
                code = 0
            except BaseException:  # noqa: BLE001  whatever it is, it ends the child
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(status, flush=True)


if __name__ == "__main__":
    main()
