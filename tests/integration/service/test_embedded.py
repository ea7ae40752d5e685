"""The guard of the embedded engine: keeps a supervisor alive, and knows when none can ever start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from service.engine import embedded
from service.engine.embedded import CANNOT_START, EmbeddedQueue, Lock, environment_of, lock_path
from service.settings import Settings
from tests.support.deployment import eventually
from tests.support.in_process import settings
from tests.support.paths import ROOT

REFUSING = """
import service.runner.process as process
from service.engine.main import run_worker
from service.settings import Settings
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
    queue = EmbeddedQueue(settings(tmp_path, spawn_supervisor=True))
    ended = threading.Event()
    monkeypatch.setattr(embedded.os, "kill", lambda pid, number: number == signal.SIGTERM and ended.set())
    command = [sys.executable, "-c", f"raise SystemExit({CANNOT_START})"]
    monkeypatch.setattr(queue, "_spawn", lambda: subprocess.Popen(command, stdin=subprocess.PIPE))
    queue.start()
    assert ended.wait(20)
    queue.stop()


def test_supervisor_is_replaced_and_ends_with_its_parent(tmp_path: Path) -> None:
    queue = EmbeddedQueue(settings(tmp_path, spawn_supervisor=True))
    queue.start()
    eventually(lambda: queue.health()["ok"], 30, "a supervisor")
    first = queue._child
    assert first is not None
    first.kill()
    eventually(lambda: queue._child is not first and queue.health()["ok"], 30, "another")
    began = time.monotonic()
    queue.stop()
    assert time.monotonic() - began < 15
    assert not queue.health()["ok"]
