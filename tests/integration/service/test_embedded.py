"""The guard of the embedded engine: keeps a supervisor alive, and knows when none can ever start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from service.api.routes.system import look
from service.app import create_app
from service.engine import embedded
from service.engine.embedded import CANNOT_START, EmbeddedQueue, Lock, environment_of, lock_path
from service.errors import Unavailable
from service.settings import Settings
from service.store import workers
from tests.support.deployment import deployment, eventually, free_port
from tests.support.in_process import TestClient, open_services, settings
from tests.support.paths import ROOT
from tests.support.service_fixtures import settings_of

REFUSING = """
import service.runner.process as process
from service.engine.main import run_worker
from service.app import create_app
from service.settings import Settings
from service.store import workers
def refuse(self):
    raise process.SandboxUnavailable("The canary escaped.", hint="--allow-unsandboxed")
process.ProcessRunner.start = refuse
raise SystemExit(run_worker(Settings()))
"""


def test_lock_has_one_holder_and_dies_with_it(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    first, second = Lock(lock_path(chosen)), Lock(lock_path(chosen))
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()


def test_settings_reach_the_child_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = settings(tmp_path, pools=["cpu", "cuda"], allowed_hosts=["a", "b"], pepper="secret", slots=3)
    for name, value in environment_of(chosen).items():
        monkeypatch.setenv(name, value)
    assert Settings() == chosen


def test_worker_without_a_jail_refuses_to_start(tmp_path: Path) -> None:
    env = {**os.environ, "BNFOLD_DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", REFUSING],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == CANNOT_START
    assert "canary" in done.stderr


def test_service_stops_when_its_supervisor_can_never_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(embedded.os, "kill", lambda pid, number: number == signal.SIGTERM and ended.set())
    command = [sys.executable, "-c", f"raise SystemExit({CANNOT_START})"]
    queue = EmbeddedQueue(
        settings(tmp_path, spawn_supervisor=True),
        lambda settings: subprocess.Popen(command, stdin=subprocess.PIPE),
    )
    queue.start()
    assert ended.wait(20)
    queue.stop()


def test_supervisor_is_replaced_and_ends_with_its_parent(tmp_path: Path) -> None:
    queue = EmbeddedQueue(settings(tmp_path, spawn_supervisor=True))
    queue.start()
    eventually(lambda: queue.health()["ok"], 30, "a supervisor")
    first = queue.supervisor
    assert first is not None
    first.kill()
    eventually(lambda: queue.supervisor is not first and queue.health()["ok"], 30, "another")
    began = time.monotonic()
    queue.stop()
    assert time.monotonic() - began < 15
    assert not queue.health()["ok"]


def test_ready_only_while_a_worker_lives(tmp_path: Path) -> None:
    """S10: the lock alone says that a process exists, not that it takes jobs."""
    services = open_services(tmp_path, lease=60.0)
    lock = Lock(lock_path(services.settings))
    assert lock.acquire()
    try:
        with TestClient(create_app(services=services), base_url="http://localhost") as client:
            answer = client.get("/readyz")
            assert answer.status_code == 503
            assert answer.json()["checks"]["engine"]["ok"]
            assert not answer.json()["checks"]["workers"]["ok"]
            assert answer.json()["pools"] == {"cpu": {"workers": 0, "slots": 0}}
            workers.report(services.db, services.settings, "w1", "full")
            eventually(lambda: client.get("/readyz").status_code == 200, 5)
    finally:
        lock.release()


def test_children_end_with_their_parent(tmp_path: Path) -> None:
    """S10: the parent of two HTTP processes is killed; the port comes free."""
    with deployment(tmp_path, BNFOLD_WEB_WORKERS="2") as made:
        port = free_port()
        made.api(port=port)
        made.kill(made.processes[0])

        def free() -> bool:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                    probe.listen()
                except OSError:
                    return False
            return True

        eventually(free, 30, "the port is free again")


def test_the_scale_engine_is_ready_without_workers_and_says_so(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A balancer keeps an API that keeps jobs; who waits for a worker reads it in the body."""
    names = {k.removeprefix("BNFOLD_").lower(): v for k, v in settings_of("procrastinate", request).items()}
    services = open_services(tmp_path, lease=60.0, pools=["cpu", "cuda"], **names)
    try:
        first = look(services)
        assert first.ready
        assert not first.checks["workers"].ok
        assert {name: pool.slots for name, pool in first.pools.items()} == {"cpu": 0, "cuda": 0}
        workers.report(services.db, services.settings, "w1", "full", ["cpu"])
        then = look(services)
        assert then.ready
        assert then.checks["workers"].ok
        assert (then.pools["cpu"].workers, then.pools["cuda"].workers) == (1, 0)
        assert "no worker serves" in then.checks["pool cuda"].detail
        assert not look(replace(services, blobs=Broken())).ready  # what the API itself cannot do
    finally:
        services.close()


class Broken:
    def ping(self) -> None:
        raise Unavailable("The bucket does not answer.")
