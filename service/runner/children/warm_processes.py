"""A set of warm processes: each is used for one job, and another is warmed in its place."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from typing import Final

from service.process.supervision import FAULTS, FIRST_PAUSE, LONGEST_PAUSE
from service.runner.children.launch import Child

_LOG = logging.getLogger("bnfold.runner")
_REFILL_SECONDS: Final = 2.0


class WarmProcesses:
    """Thread-safe.

    Args:
        wanted: how many should wait.
        make: returns a new warm process, or raises; an event given to it ends the wait for one.
    """

    def __init__(self, wanted: int, make: Callable[[threading.Event | None], Child]) -> None:
        self.making = 0
        self.make = make
        self._wanted = wanted
        self._idle: queue.Queue[Child] = queue.Queue()
        self._lock = threading.Lock()
        self._warmers = 0
        self._closed = threading.Event()

    def idle(self) -> list[Child]:
        """Return the processes that wait for a job."""
        with self._idle.mutex:
            return list(self._idle.queue)

    def take(self, timeout: float) -> Child | None:
        """Return a process that is alive, None if none is there within `timeout` seconds."""
        with contextlib.suppress(queue.Empty):
            while True:
                child = self._idle.get(timeout=timeout) if timeout else self._idle.get_nowait()
                if child.process.poll() is None:
                    return child
                child.close()  # it died while it waited
        return None

    def close(self) -> None:
        """Kill the processes that wait; none is made any more."""
        with self._lock:
            self._closed.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    def refill(self, hold: threading.Event | None) -> None:
        """Warm processes in the background until enough of them wait.

        Args:
            hold: begin only when it is set, or after two seconds.
        """
        with self._lock:
            enough = self._idle.qsize() + self.making >= self._wanted
            if self._closed.is_set() or enough or self._warmers > 2 * self._wanted:
                return
            self._warmers += 1
        try:
            threading.Thread(target=self._warm_one, args=(hold,), name="runner-warm", daemon=True).start()
        except RuntimeError as error:  # no thread to be had: the job that needs a process makes it itself
            with self._lock:
                self._warmers -= 1
            FAULTS.note("runner-warm", error)
            _LOG.error("no thread to warm a runner: %s", error)

    def _warm_one(self, hold: threading.Event | None) -> None:
        """Add one warm process, however often that fails, until there are enough."""
        try:
            if hold is not None:
                hold.wait(_REFILL_SECONDS)
            pause = FIRST_PAUSE
            while not self._add_one() and not self._closed.wait(pause):
                pause = min(LONGEST_PAUSE, 2 * pause)
        finally:
            with self._lock:
                self._warmers -= 1

    def _add_one(self) -> bool:
        """Try once to add a process. Return whether there is nothing left to do."""
        with self._lock:
            if self._closed.is_set() or self._idle.qsize() + self.making >= self._wanted:
                return True
            self.making += 1
        child, done = None, False
        try:
            child = self.make(None)
            FAULTS.clear("runner-warm")
        except Exception as error:  # noqa: BLE001  whatever it is, the next try may succeed
            if not self._closed.is_set():
                FAULTS.note("runner-warm", error)
                _LOG.error("a runner did not warm up: %s", error)
        finally:
            with self._lock:
                self.making -= 1
                if child is not None and not self._closed.is_set():
                    self._idle.put(child)
                    child, done = None, True
        if child is not None:
            child.close()
        return done
