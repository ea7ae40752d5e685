"""Whole processes, killed and stopped at bad moments: API, workers, PostgreSQL; and a full disk."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import sqlite3
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.integration.service.test_deploy import SERVICES, command, start
from tests.process.faults.actors import digest
from tests.support.deployment import Deployment, deployment, eventually, free_port, http
from tests.support.in_process import open_services, orders, submit
from tests.support.service_fixtures import settings_of


class Load:
    """Clients that submit with keys, repeat what was not acknowledged, and remember what was."""

    def __init__(self, urls: list[str], count: int, seconds: float = 0.05) -> None:
        self._urls, self._count, self._seconds = urls, count, seconds
        self.acknowledged: dict[str, str] = {}
        self._threads = [threading.Thread(target=self._work, args=(n,)) for n in range(4)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(120)

    def _work(self, number: int) -> None:
        for index in range(self._count):
            data = orders(seconds=self._seconds, bytes=20_000)
            key = f"{number}-{index}-{secrets.token_hex(4)}"
            deadline = time.monotonic() + 90
            while key not in self.acknowledged:
                assert time.monotonic() < deadline
                try:
                    self._try(data, key)
                except httpx.HTTPError:
                    time.sleep(0.1)

    def _try(self, data: bytes, key: str) -> None:
        with http(random.choice(self._urls)) as client:
            put = client.put(f"/v1/blobs/{digest(data)}", content=data)
            if put.status_code >= 400:
                time.sleep(0.1)
                return
            job = client.post("/v1/jobs", json={"input": digest(data)}, headers={"idempotency-key": key})
            if job.status_code in (200, 202):
                self.acknowledged[key] = job.json()["id"]
            else:
                time.sleep(0.1)


def settled(url: str, load: Load, seconds: float = 90) -> None:
    """Every acknowledged job has succeeded exactly once, and its artifact is whole."""
    with http(url) as client:
        for job_id in load.acknowledged.values():
            here = f"/v1/jobs/{job_id}"
            job = eventually(lambda here=here: _done(client, here), seconds, f"{here} ends")
            assert job["state"] == "succeeded", job
            data = client.get(job["links"]["artifact"]).content
            assert digest(data) == job["artifact"]["digest"]
            events = client.get(f"{here}/events").text
            ends = [line for line in events.splitlines() if line.startswith("data") and '"succeeded"' in line]
            assert len(ends) == 1, events
        assert len(set(load.acknowledged.values())) == len(load.acknowledged)


def _done(client: httpx.Client, here: str) -> Any:
    try:
        job = client.get(here).json()
    except (httpx.HTTPError, ValueError):
        return None
    return job if job.get("state") in ("succeeded", "failed", "rejected", "cancelled") else None


def supervisor_of(made: Deployment) -> psutil.Process | None:
    for process in psutil.process_iter(["cmdline", "environ"]):
        command = process.info["cmdline"] or []
        if "--supervisor" in command and str(made.folder) in str((process.info["environ"] or {}).values()):
            return process
    return None


def test_supervisor_and_api_killed_under_load(tmp_path: Path) -> None:
    """Several HTTP processes on one folder, each of which may end up with the supervisor."""
    with deployment(tmp_path, BNFOLD_SLOTS="2") as made:
        one, two = made.api(), made.api()
        with Load([one, two], 12) as load:
            time.sleep(0.7)
            for _ in range(2):
                supervisor = eventually(lambda: supervisor_of(made), 20, "a supervisor runs")
                supervisor.kill()
                time.sleep(0.5)
            made.kill(made.processes[0])
            made.api(port=int(one.rsplit(":", 1)[1]))
        settled(two, load)
        assert len(load.acknowledged) == 48


def test_one_supervisor_for_several_web_processes(tmp_path: Path) -> None:
    with deployment(tmp_path, BNFOLD_WEB_WORKERS="3") as made:
        url = made.api()
        with Load([url], 5) as load:
            pass
        settled(url, load)
        time.sleep(1)
        mine = [
            p for p in psutil.process_iter(["cmdline", "environ"])
            if "--supervisor" in (p.info["cmdline"] or []) and str(tmp_path) in str(p.info["environ"])
        ]  # fmt: skip
        assert len(mine) == 1
        parent = psutil.Process(made.processes[0].pid)
        assert len([c for c in parent.children() if "spawn_main" in " ".join(c.cmdline())]) == 3
    time.sleep(0.5)
    assert not any(p.is_running() and p.status() != "zombie" for p in mine), "it ends with the service"


def test_stopped_supervisor_comes_back_too_late(tmp_path: Path) -> None:
    """SIGSTOP past the lease, then SIGCONT: its result is refused, the job ends once."""
    with deployment(tmp_path, BNFOLD_LEASE="1.5", BNFOLD_SLOTS="1", BNFOLD_SPAWN_SUPERVISOR="false") as made:
        url = made.api(wait=False)
        first = made.worker()
        with http(url) as client:
            eventually(lambda: _alive(client), 60, "up")
            data = orders(seconds=1.0)
            client.put(f"/v1/blobs/{digest(data)}", content=data)
            job = client.post("/v1/jobs", json={"input": digest(data)}).json()
            here = f"/v1/jobs/{job['id']}"
            eventually(lambda: client.get(here).json()["state"] == "running", 20)
            _stop_between_transactions(first, made.folder / "data")
            # The lock is still held by the stopped one: the lease, not the lock, decides about the job.
            services = open_services(made.folder / "data", lease=1.5)
            from service.jobs import leases
            from tests.support.in_process import worker

            eventually(lambda: leases.reap(services.db, services.queue, services.settings), 10, "reaped")
            assert worker(services, name="other").run(job["id"])
            settled_job = client.get(here).json()
            first.send_signal(signal.SIGCONT)
            time.sleep(2.5)
            assert client.get(here).json() == settled_job
            assert (settled_job["state"], settled_job["attempt"]) == ("succeeded", 2)
            services.close()


def _stop_between_transactions(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Stop it where it holds no lock of the database: SQLite has one writer, and a frozen one stays it."""
    with closing(sqlite3.connect(next(folder.glob("*.db")), timeout=0.1, isolation_level=None)) as database:
        for _ in range(100):
            process.send_signal(signal.SIGSTOP)
            try:
                database.execute("BEGIN IMMEDIATE")
                database.execute("ROLLBACK")
            except sqlite3.OperationalError:
                process.send_signal(signal.SIGCONT)
                time.sleep(0.02)
            else:
                return
    raise AssertionError("it was never between two transactions")


def _alive(client: httpx.Client) -> bool:
    try:
        return client.get("/livez").status_code == 200
    except httpx.HTTPError:
        return False


def test_ready_within_five_seconds_with_a_thousand_queued(tmp_path: Path) -> None:
    services = open_services(tmp_path / "data", lease=3.0)
    made_jobs = [submit(services, orders(bytes=100)).job.id for _ in range(1000)]
    services.close()
    with deployment(tmp_path, BNFOLD_SLOTS="4") as made:
        began = time.monotonic()
        url = made.api()
        took = time.monotonic() - began
        print(f"ready after {took:.2f} s")
        with http(url) as client:
            eventually(lambda: _succeeded(client) >= 60, 60, "they are worked off")
            assert client.get(f"/v1/jobs/{made_jobs[0]}").json()["attempt"] == 1
        # Other work on this machine slows the start's imports; alone it takes about two seconds.
        assert took < 5 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _succeeded(client: httpx.Client) -> int:
    for line in client.get("/metrics").text.splitlines():
        if line.startswith('bnfold_jobs{kind="fold",pool="cpu",state="succeeded"}'):
            return int(float(line.split()[-1]))
    return 0


def test_postgres_restarts_in_the_middle(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    env = settings_of("procrastinate-s3", request)
    server = request.getfixturevalue("postgres")
    with deployment(tmp_path, **env, BNFOLD_SLOTS="2") as made:
        url = made.api(wait=False)
        made.worker()
        made.ready(url)
        with Load([url], 8, seconds=0.2) as load:
            time.sleep(0.8)
            try:
                server.stop(signal.SIGQUIT)  # like a crash: recovery from its log
                time.sleep(0.7)
                with http(url) as client:
                    assert client.get("/livez").status_code == 200
                    down = client.get("/v1/jobs")
                    assert (down.status_code, down.json()["code"]) == (503, "unavailable")
            finally:  # other tests use it too
                server.start()
        settled(url, load, 60)
        made.ready(url)


def test_scale_deployment_loses_nothing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """`deploy/compose/scale.yml` as processes, by its commands: 2 API, 3 workers, PostgreSQL, S3."""
    env = settings_of("procrastinate-s3", request) | {"BNFOLD_LEASE": "2", "BNFOLD_REQUIRE_KEYS": "false"}
    with deployment(tmp_path, **env) as made:
        ports = [free_port() for _ in range(SERVICES["api"]["deploy"]["replicas"])]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        serve = command(SERVICES["api"], **{"0.0.0.0": "127.0.0.1"})
        work = command(SERVICES["worker"])
        api = [start(made, serve, BNFOLD_PORT=str(port)) for port in ports]
        workers = [start(made, work) for _ in range(SERVICES["worker"]["deploy"]["replicas"])]
        for url in urls:
            made.ready(url)
        with Load(urls, 10, seconds=0.3) as load:
            for victim in (workers[0], workers[1], api[0]):
                time.sleep(1.0)
                made.kill(victim)
            start(made, serve, BNFOLD_PORT=str(ports[0]))
            start(made, work)
        settled(urls[1], load)
        assert len(load.acknowledged) == 40


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of 24 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("tmpfs cannot be mounted here (needs root)")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_full_disk(tmp_path: Path, small_disk: Path) -> None:
    """R3: 507 while it is full, reads go on, nothing to restart afterwards."""
    with deployment(tmp_path, BNFOLD_DATA_DIR=str(small_disk / "data")) as made:
        url = made.api()
        with http(url) as client:
            data = orders(bytes=200_000)
            client.put(f"/v1/blobs/{digest(data)}", content=data)
            job = client.post("/v1/jobs", json={"input": digest(data)}, headers={"prefer": "wait=20"}).json()
            assert job["state"] == "succeeded"
            big = secrets.token_bytes(30 << 20)
            full = client.put(f"/v1/blobs/{digest(big)}", content=big)
            assert (full.status_code, full.json()["code"]) == (507, "storage_full")
            filler = small_disk / "filler"
            with filler.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError:
                    pass
            waiting = orders(bytes=300_000)
            answer = client.put(f"/v1/blobs/{digest(waiting)}", content=waiting)
            assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
            assert client.get("/livez").status_code == 200
            assert client.get(f"/v1/jobs/{job['id']}").json()["state"] == "succeeded"
            assert digest(client.get(job["links"]["artifact"]).content) == job["artifact"]["digest"]
            eventually(lambda: client.get("/readyz").status_code == 503, 10, "it says that it cannot write")
            filler.unlink()
            eventually(lambda: client.get("/readyz").status_code == 200, 20, "it recovers by itself")
            assert client.put(f"/v1/blobs/{digest(waiting)}", content=waiting).status_code == 201
            after = client.post("/v1/jobs", json={"input": digest(waiting)}, headers={"prefer": "wait=30"})
            assert after.json()["state"] == "succeeded", json.dumps(after.json())


@pytest.mark.parametrize("call", ["fsync", "pwrite64", "rename"])
def test_io_error_of_the_disk(tmp_path: Path, call: str) -> None:
    """EIO from one system call: the request is refused, the next one works."""
    from tests.process.faults.sweep import reason_no_strace

    if reason := reason_no_strace():
        pytest.skip(reason)
    with deployment(tmp_path) as made:
        url = made.api()
        with http(url) as client:
            pid = made.processes[0].pid
            tracer = subprocess.Popen(
                ["strace", "-f", "-q", "-o", "/dev/null", "-e", f"trace={call}",
                 "-e", f"inject={call}:error=EIO", "-p", str(pid)],
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            eventually(lambda: _traced(pid), 10, "traced")
            data = orders()
            answer = client.put(f"/v1/blobs/{digest(data)}", content=data)
            assert (answer.status_code, answer.json()["code"]) == (507, "storage_full"), answer.text
            tracer.send_signal(signal.SIGINT)
            tracer.wait(10)
            assert client.put(f"/v1/blobs/{digest(data)}", content=data).status_code in (200, 201)
            job = client.post("/v1/jobs", json={"input": digest(data)}, headers={"prefer": "wait=30"}).json()
            assert job["state"] == "succeeded"


def _traced(pid: int) -> bool:
    return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()


def test_polite_end_waits_for_nobody(tmp_path: Path) -> None:
    """SIGTERM with followers and long polls open: they are answered, the running job is given back."""
    with deployment(tmp_path) as made:
        url = made.api()
        with http(url) as client:
            data = orders(seconds=30)
            client.put(f"/v1/blobs/{digest(data)}", content=data)
            here = client.post("/v1/jobs", json={"input": digest(data)}).headers["location"]
            eventually(lambda: client.get(here).json()["state"] == "running", 20)
        answers: list[Any] = []

        def follow() -> None:
            with http(url) as follower:
                answers.append(follower.get(f"{here}/events").text)

        def poll() -> None:
            with http(url) as poller:
                answers.append(poller.get(here, params={"wait": 50}).json())

        threads = [threading.Thread(target=act) for act in (follow, poll)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        began = time.monotonic()
        made.processes[0].send_signal(signal.SIGTERM)
        assert made.processes[0].wait(20) == 0
        took = time.monotonic() - began
        print(f"ended {took:.2f} s after SIGTERM")
        assert took < 10
        for thread in threads:
            thread.join(5)
        assert len(answers) == 2
        services = open_services(made.folder / "data")
        back = services.jobs.get("default", here.rsplit("/", 1)[1])
        assert (back.state.value, back.lost_attempts) == ("queued", 0)
        services.close()
