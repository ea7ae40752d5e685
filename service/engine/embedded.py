"""The default engine: the `jobs` table is the queue, one supervisor process takes from it.

Every HTTP process keeps a guard that starts a supervisor when none holds `supervisor.lock`; the kernel drops
the lock with its holder, so there is never more than one, and never none for long. It ends when the
process that started it is gone (its stdin closes), after it has given its jobs back.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from service.errors import ServiceError
from service.jobs import leases
from service.jobs.model import Kind
from service.jobs.worker import Worker
from service.process.supervision import FAULTS, start_thread
from service.settings import Settings
from service.store.change_feed import Changes
from service.store.db import QUEUED

log = logging.getLogger("bnfold.engine")


# A new job wakes the consumer; a job that was put off is found by looking, so much later at most.
_LOOK_SECONDS = 1.0
CANNOT_START = 78  # EX_CONFIG: a worker that no restart would help


class Lock:
    """An exclusive lock on a file, held until the process ends or `release`."""

    def __init__(self, path: Path) -> None:
        self._path, self._fd = path, -1

    def acquire(self) -> bool:
        """Take it without waiting."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._fd = descriptor
        return True

    def release(self) -> None:
        """Give it back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def lock_path(settings: Settings) -> Path:
    """The supervisor's lock."""
    return settings.data_dir.absolute() / "supervisor.lock"


class EmbeddedQueue:
    """The API's side: nothing to hand over, a supervisor to keep alive."""

    def __init__(
        self, settings: Settings, spawn: Callable[[Settings], subprocess.Popen[bytes]] | None = None
    ) -> None:
        """`spawn` starts a supervisor that ends when its stdin closes; None: `spawn_supervisor`."""
        self._settings, self._spawn = settings, spawn or spawn_supervisor
        self._stop = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def enqueue(self, connection: Connection, job_id: str, pool: str, delay: float = 0.0) -> None:
        """The row is the queue; `not_before` holds the delay."""

    def start(self) -> None:
        """Begin to guard."""
        if self._settings.spawn_supervisor:
            self._thread = start_thread("guard", self._guard, self._stop)

    def stop(self) -> None:
        """Let the supervisor end (its stdin closes) and wait for it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        if self._child is not None and self._child.stdin is not None:
            self._child.stdin.close()
            try:
                self._child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()

    def health(self) -> dict[str, Any]:
        """Fine when somebody holds the lock."""
        try:
            running = self._runs()
        except OSError as error:
            detail = f"whether a supervisor runs cannot be found out: {error.strerror}"
            return {"ok": False, "engine": "embedded", "detail": detail}
        if running:
            return {"ok": True, "engine": "embedded"}
        fault = FAULTS.current().get("guard")
        detail = "no supervisor is running" + (f": {fault}" if fault else "")
        return {"ok": False, "engine": "embedded", "detail": detail}

    def _runs(self) -> bool:
        """Whether a supervisor holds the lock. Raises: OSError."""
        probe = Lock(lock_path(self._settings))
        if probe.acquire():
            probe.release()
            return False
        return True

    def maintain(self) -> int:
        """The table cannot get out of step with itself."""
        return 0

    def _guard(self) -> None:
        """Keep a supervisor alive until `stop`.

        Raises: OSError, MemoryError where none can be started; `supervise` tries again.
        """
        pause = 0.2
        while not self._stop.is_set():
            began = time.monotonic()
            if self._child is not None and self._child.poll() == CANNOT_START:
                log.critical("the service stops: its supervisor cannot start")
                os.kill(os.getpid(), signal.SIGTERM)
                return
            if self._child is None or self._child.poll() is not None:
                if not self._runs():
                    self._child = self._spawn(self._settings)
                # A supervisor that dies at once must not be started in a tight loop.
                pause = min(5.0, pause * 2) if time.monotonic() - began < 2 else 0.2
            else:
                pause = 0.2
            FAULTS.clear("guard")
            self._stop.wait(pause)

    @property
    def supervisor(self) -> subprocess.Popen[bytes] | None:
        """The supervisor that this process has started, None where another one holds the lock."""
        return self._child


def spawn_supervisor(settings: Settings) -> subprocess.Popen[bytes]:
    """Start a supervisor. Raises: OSError."""
    command = [sys.executable, "-m", "service.engine.main", "--supervisor"]
    environment = os.environ | environment_of(settings)
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True)


def environment_of(settings: Settings) -> dict[str, str]:
    """The settings as variables, so that a child process sees exactly what we see."""
    found = {}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if hasattr(value, "get_secret_value"):
            value = value.get_secret_value()
        if isinstance(value, list):
            value = ",".join(value)
        if value is not None:
            found[f"BNFOLD_{name.upper()}"] = str(value)
    return found


class EmbeddedConsumer:
    """The supervisor's side: claims tenants in turn, `slots` at a time; with `kinds`, only those."""

    def __init__(
        self, worker: Worker, changes: Changes, slots: int | None = None, kinds: tuple[Kind, ...] = ()
    ) -> None:
        self._worker, self._changes = worker, changes
        self._slots, self._kinds = slots or worker.settings.slots, kinds

    def serve(self, stop: threading.Event) -> None:
        """Run jobs until `stop`."""
        slots = self._slots
        running: dict[Future[bool], str] = {}
        cursor = self._changes.cursor(lambda word: word.startswith(QUEUED))
        with ThreadPoolExecutor(slots, thread_name_prefix="job") as pool:
            while not stop.is_set():
                for future in [future for future in running if future.done()]:
                    _log_defect(future, running.pop(future))
                free = slots - len(running)
                taken = self._take(free + len(running), set(running.values())) if free else []
                for job_id in taken[:free]:
                    if (started := _submitted(pool, self._run, job_id)) is not None:
                        running[started] = job_id
                if not taken[:free]:
                    cursor.wait(_LOOK_SECONDS, stop)

    def _take(self, limit: int, mine: set[str]) -> list[str]:
        try:
            found = leases.next_queued(self._worker.db, self._worker.pools(), limit + 16, self._kinds)
        except ServiceError as error:
            log.warning("queue not readable: %s", error.error_code)
            FAULTS.note("consumer", error)
            time.sleep(0.2)
            return []
        FAULTS.clear("consumer")
        return [job_id for job_id in found if job_id not in mine]

    def _run(self, job_id: str) -> bool:
        try:
            done = self._worker.run(job_id)
        finally:
            self._changes.wake()
        if not done:
            time.sleep(0.05)  # its tenant is at its limit, or the row has just changed
        return done


def _submitted(pool: ThreadPoolExecutor, run: Callable[[str], bool], job_id: str) -> Future[bool] | None:
    """Hand a job to a thread; None where no thread can be started now: the job stays in the queue."""
    try:
        return pool.submit(run, job_id)
    except (RuntimeError, MemoryError) as error:
        FAULTS.note("consumer", error)
        log.error("no thread for a job: %s", error)
        time.sleep(0.2)
        return None


def _log_defect(future: Future[bool], job_id: str) -> None:
    error = future.exception()
    if isinstance(error, ServiceError):
        log.warning("job not claimed", extra={"job": job_id, "code": error.error_code})
    elif error is not None:
        FAULTS.note("job", error)
        log.error("job thread failed", extra={"job": job_id}, exc_info=error)
