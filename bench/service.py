"""`python -m bench.service`: figures of the service, each beside a limit measured in the same run.

Needs nothing but the repository; PostgreSQL and an S3 server are used where the tests' harness finds them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import secrets
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.table import grid
from tests.support.deployment import (
    Deployment,
    Postgres,
    deployment,
    eventually,
    free_port,
    http,
    reason_no_postgres,
)

MIB = 1 << 20
Row = list[str]


def digest(data: bytes) -> str:
    """Name of a blob."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def orders(**values: Any) -> bytes:
    """Input of the runner that only pretends: the engine is measured, not the folding."""
    return json.dumps({"nonce": secrets.token_hex(8)} | values).encode()


def loopback_limit(size: int) -> float:
    """Bytes per second of one plain TCP connection on this machine, now."""
    server = socket.create_server(("127.0.0.1", 0))

    def send() -> None:
        connection, _ = server.accept()
        block, left = bytes(4 * MIB), size
        while left > 0:
            connection.sendall(block[: min(left, len(block))])
            left -= len(block)
        connection.close()

    thread = threading.Thread(target=send)
    thread.start()
    with socket.create_connection(server.getsockname()) as near:
        began = time.perf_counter()
        drain(near)
        took = time.perf_counter() - began
    thread.join()
    server.close()
    return size / took


def drain(connection: socket.socket) -> int:
    """Read to the end; bytes."""
    buffer, total = bytearray(4 * MIB), 0
    while count := connection.recv_into(buffer):
        total += count
    return total


def raw(url: str, head: str, body: Path | None = None) -> tuple[float, int, bytes]:
    """One request over a plain socket: seconds, bytes of the answer, its first line."""
    port = int(url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        began = time.perf_counter()
        connection.sendall(f"{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        if body is not None:
            with body.open("rb") as file:
                connection.sendfile(file)
        first = connection.recv(MIB)
        total = len(first) + drain(connection)
        return time.perf_counter() - began, total, first.split(b"\r\n", 1)[0]


@contextmanager
def artifact_of(made: Deployment, path: Path) -> Iterator[str]:
    """A stored blob, made readable as an artifact by a row of its own."""
    from sqlalchemy import insert

    from service.settings import Settings
    from service.store import tables
    from service.store.db import Database

    name = f"sha256:{hashlib.file_digest(path.open('rb'), 'sha256').hexdigest()}"
    db = Database(Settings(data_dir=made.folder / "data").db_url)
    row = {"tenant": "default", "digest": name, "size": path.stat().st_size, "state": "published",
           "media_type": "application/octet-stream", "job_id": "job_bench", "created_at": 0.0}  # fmt: skip
    with db.write() as connection:
        connection.execute(insert(tables.artifacts).values(**row))
    yield name
    db.close()


def transfer(folder: Path, size: int) -> list[Row]:
    """Up and down through one process, one at a time and four at a time, and what its memory does."""
    path = folder / "big.bin"
    with path.open("wb") as file:
        for _ in range(size // (16 * MIB)):
            file.write(secrets.token_bytes(MIB) * 16)
    size = path.stat().st_size
    limit = loopback_limit(size)
    rows: list[Row] = [["loopback limit (plain TCP)", f"{limit / 1e9:.2f} GB/s", ""]]
    with deployment(folder / "transfer", BNFOLD_SPAWN_SUPERVISOR="false") as made:
        url = made.api(wait=False)
        eventually(lambda: alive(url), 60)
        process = psutil.Process(made.processes[0].pid)
        before = process.memory_info().rss
        peak = Peak(process)
        with artifact_of(made, path) as name, peak:
            head = f"PUT /v1/blobs/{name} HTTP/1.1\r\nContent-Length: {size}"
            up = [raw(url, head, path)[0] for _ in range(3)]
            get = f"GET /v1/artifacts/{name} HTTP/1.1"
            first = raw(url, get)[0]
            down = [raw(url, get)[0] for _ in range(5)]
            four_up = at_once(4, lambda: raw(url, head, path))
            four_down = at_once(4, lambda: raw(url, get))
        rate = [size / seconds / 1e9 for seconds in (min(up), min(down), first)]
        rows += [
            ["upload, hashed and synced", f"{rate[0]:.2f} GB/s", f"{rate[0] * 1e9 / limit:.0%} of the limit"],
            ["download", f"{rate[1]:.2f} GB/s", f"{rate[1] * 1e9 / limit:.0%} of the limit; bar 1 GB/s"],
            ["first download (digest checked)", f"{rate[2]:.2f} GB/s", ""],
            ["4 uploads at once", f"{4 * size / four_up / 1e9:.2f} GB/s", ""],
            ["4 downloads at once", f"{4 * size / four_down / 1e9:.2f} GB/s", ""],
            ["growth of the API's RSS", f"{(peak.rss - before) / MIB:.0f} MiB",
             f"4 x {size / (1 << 30):.1f} GiB up and down; bar 64 MiB"],
        ]  # fmt: skip
    return rows


class Peak:
    """Highest RSS of a process while the block runs."""

    def __init__(self, process: psutil.Process) -> None:
        self._process, self.rss = process, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.rss = max(self.rss, self._process.memory_info().rss)


def at_once(count: int, act: Any) -> float:
    """Seconds for all of them."""
    threads = [threading.Thread(target=act) for _ in range(count)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def alive(url: str) -> bool:
    """`/livez` answers."""
    try:
        return httpx.get(f"{url}/livez", trust_env=False, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def latency(folder: Path) -> list[Row]:
    """Identical resubmission, and /livez while four conversions run (real runner, real model)."""
    rows: list[Row] = []
    with deployment(folder / "latency") as made, http(made.api()) as client:
        data = orders(bytes=MIB)
        client.post("/v1/fold", content=data)
        body = {"input": digest(data)}
        took = [timed(lambda: client.post("/v1/jobs", json=body)) for _ in range(200)]
        middle, late = statistics.median(took) * 1e3, percentile(took, 0.99) * 1e3
        rows.append(["identical resubmission, p50", f"{middle:.1f} ms", f"p99 {late:.1f} ms; bar 10 ms"])
    model = sample(folder)
    env = {"BNFOLD_RUNNER": "process", "BNFOLD_SLOTS": "4", "BNFOLD_LEASE": "30"}
    with deployment(folder / "busy", **env) as made, http(made.api()) as client:
        name = digest(model)
        client.put(f"/v1/blobs/{name}", content=model)
        stop = threading.Event()
        feeder = threading.Thread(target=keep_busy, args=(made.urls[0], name, stop))
        feeder.start()
        eventually(lambda: running(client) >= 2, 60, "conversions run")
        took = []
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            took.append(timed(lambda: client.get("/livez")))
            time.sleep(0.01)
        stop.set()
        feeder.join()
        worst = max(took) * 1e3
        rows.append(["/livez beside 4 conversions, p99", f"{percentile(took, 0.99) * 1e3:.1f} ms",
                     f"max {worst:.0f} ms on {os.cpu_count()} cores; bars 50 and 250 ms"])  # fmt: skip
    return rows


def connections(folder: Path, idle: int = 3000) -> list[Row]:
    """Requests beside connections that say nothing. Each side needs a descriptor for every one of them."""
    from service.process_limits import raise_descriptor_limit

    raise_descriptor_limit()
    held: list[socket.socket] = []
    env = {"BNFOLD_HEADER_TIMEOUT": "120"}
    with deployment(folder / "connections", **env) as made, http(made.api()) as client:
        port = int(made.urls[0].rsplit(":", 1)[1])
        try:
            held += (socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(idle))
            took = [timed(lambda: client.get("/v1/jobs")) for _ in range(300)]
            alone = held[0].fileno() >= 0 and len(held) == idle
        finally:
            for each in held:
                each.close()
    late = percentile(took, 0.99) * 1e3
    name = f"GET /v1/jobs beside {len(held)} idle connections, p99"
    return [
        [name, f"{late:.0f} ms", f"p50 {statistics.median(took) * 1e3:.0f} ms; bar 500 ms; all held: {alone}"]
    ]


def lanes(folder: Path) -> list[Row]:
    """Inspections while twenty folds wait, real runner and model."""
    model = sample(folder)
    env = {"BNFOLD_RUNNER": "process", "BNFOLD_LEASE": "30"}
    with deployment(folder / "lanes", **env) as made, http(made.api()) as client:
        name = digest(model)
        client.put(f"/v1/blobs/{name}", content=model)
        ask = {"input": name, "kind": "inspect", "fresh": True}
        for _ in range(3):  # a service that has just started has nothing warm yet
            client.post("/v1/jobs", json=ask, headers={"prefer": "wait=60"})
        for _ in range(20):
            options = {"seed": secrets.randbits(16)}
            client.post("/v1/jobs", json={"input": name, "fresh": True, "options": options})
        took = []
        for _ in range(40):
            time.sleep(0.25)
            took.append(timed(lambda: client.post("/v1/jobs", json=ask, headers={"prefer": "wait=60"})))
        left = len(client.get("/v1/jobs", params={"state": "queued"}).json()["jobs"])
    told = f"p50 {statistics.median(took):.2f} s; bar 2 s; {left} folds still waited at the end"
    return [["inspection beside 20 folds, p95", f"{percentile(took, 0.95):.2f} s", told]]


def timed(act: Any) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    act().raise_for_status()
    return time.perf_counter() - began


def percentile(values: list[float], share: float) -> float:
    """Nearest rank."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def keep_busy(url: str, name: str, stop: threading.Event) -> None:
    """Four real conversions at any time."""
    with http(url) as client:
        while not stop.is_set():
            if running(client) < 4:
                client.post(
                    "/v1/jobs", json={"input": name, "fresh": True, "options": {"seed": secrets.randbits(16)}}
                )
            time.sleep(0.1)


def running(client: httpx.Client) -> int:
    """Jobs that wait or run."""
    return sum(len(client.get("/v1/jobs", params={"state": s}).json()["jobs"]) for s in ("queued", "running"))


def sample(folder: Path) -> bytes:
    """A network worth a few seconds."""
    from bench.nets import NETS

    build = NETS["residual"] if "residual" in NETS else next(iter(NETS.values()))
    path = folder / "sample.onnx"
    build(path)
    return path.read_bytes()


def throughput(folder: Path, jobs: int, postgres: Postgres | None) -> list[Row]:
    """The engine alone (empty jobs): queued first, then drained; workers beside each other; no job twice."""
    rows: list[Row] = []
    for slots in (1, 4):
        seconds, twice = embedded(folder / f"embedded-{slots}", jobs, slots)
        rows.append(
            [f"embedded, {slots} slots", f"{jobs / seconds:.0f} jobs/s", f"{jobs} queued; {twice} run twice"]
        )
    if postgres is None:
        return [*rows, ["procrastinate", "-", str(reason_no_postgres())]]
    for workers in (1, 2, 4):
        url = postgres.database(f"bench_{workers}_{secrets.token_hex(3)}")
        seconds, twice = scaled(folder / f"scale-{workers}", jobs, workers, url)
        name = f"procrastinate, {workers} workers x 2 slots"
        rows.append([name, f"{jobs / seconds:.0f} jobs/s", f"{jobs} queued; {twice} run twice"])
    return rows


def embedded(folder: Path, jobs: int, slots: int) -> tuple[float, int]:
    """Seconds to drain, and jobs with more than one attempt."""
    with deployment(folder, BNFOLD_SPAWN_SUPERVISOR="false", BNFOLD_SLOTS=str(slots)) as made:
        url = made.api(wait=False)
        eventually(lambda: alive(url), 60)
        fill(made, jobs)
        made.worker()
        return wait_drained(url, jobs)


def scaled(folder: Path, jobs: int, workers: int, database: str) -> tuple[float, int]:
    """The same over PostgreSQL."""
    env = {"BNFOLD_ENGINE": "procrastinate", "BNFOLD_DATABASE_URL": database, "BNFOLD_SLOTS": "2"}
    with deployment(folder, **env) as made:
        url = made.api(wait=False)
        eventually(lambda: alive(url), 60)
        fill(made, jobs)
        for _ in range(workers):
            made.worker()
        return wait_drained(url, jobs)


def fill(made: Deployment, jobs: int) -> None:
    """Queue them inside this process: the API's speed is not what is measured here."""
    from service.jobs.requests import Submission
    from service.settings import Settings
    from service.wiring import build
    from tests.support.in_process import upload

    names = {name.removeprefix("BNFOLD_").lower(): value for name, value in made.env.items()}
    services = build(Settings(**({"data_dir": made.folder / "data"} | names)))  # type: ignore[arg-type]
    for _ in range(jobs):
        services.jobs.submit(Submission("default", upload(services, orders(bytes=100))))
    services.close()


def wait_drained(url: str, jobs: int) -> tuple[float, int]:
    """From the first start of a job to the last end of one."""
    with http(url) as client:
        eventually(lambda: client.get("/v1/jobs", params={"state": "queued", "limit": 1}).json()["jobs"] == []
                   and client.get("/v1/jobs", params={"state": "running", "limit": 1}).json()["jobs"] == [],
                   600, "drained")  # fmt: skip
        found, token = [], None
        while True:
            page = client.get(
                "/v1/jobs", params={"limit": 200} | ({"page_token": token} if token else {})
            ).json()
            found += page["jobs"]
            token = page["next"]
            if token is None:
                break
    assert len(found) == jobs
    assert {job["state"] for job in found} == {"succeeded"}
    first = min(job["started_at"] for job in found)
    last = max(job["finished_at"] for job in found)
    return seconds_of(last) - seconds_of(first), sum(job["attempt"] > 1 for job in found)


def seconds_of(stamp: str) -> float:
    """RFC 3339 to seconds."""
    from datetime import datetime

    return datetime.fromisoformat(stamp).timestamp()


def main(argv: list[str] | None = None) -> int:
    """Print the tables; 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.service", description=__doc__)
    parser.add_argument("--size", type=int, default=2048, help="MiB of the transferred file (default 2048)")
    parser.add_argument("--jobs", type=int, default=1000, help="queued jobs (default 1000)")
    parser.add_argument("--only", choices=("transfer", "latency", "connections", "lanes", "throughput"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="bnfold-bench-"))
    postgres = None
    results: dict[str, list[Row]] = {}
    try:
        if options.only in (None, "transfer"):
            results["transfer"] = transfer(folder, options.size * MIB)
        if options.only in (None, "latency"):
            results["latency"] = latency(folder)
        if options.only in (None, "connections"):
            results["connections"] = connections(folder)
        if options.only in (None, "lanes"):
            results["lanes"] = lanes(folder)
        if options.only in (None, "throughput"):
            if reason_no_postgres() is None:
                postgres = Postgres(port=free_port())
                postgres.create()
                postgres.start()
            results["throughput"] = throughput(folder, options.jobs, postgres)
    finally:
        if postgres is not None:
            postgres.close()
        shutil.rmtree(folder, ignore_errors=True)
    for title, rows in results.items():
        print(f"\n{title}\n{grid(['', 'figure', ''], rows)}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
