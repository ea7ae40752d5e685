"""Threads that must not end before the process does: a failure is logged, counted, shown and tried again."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from service.errors import ServiceError

log = logging.getLogger("bnfold.supervision")
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0
# So long after a failure a thread that goes on counts as well again.
CALM_SECONDS: Final = 10.0


@dataclass
class Faults:
    """What fails in this process: counts for ever, and what is wrong now. Thread-safe."""

    counts: Counter[str] = field(default_factory=Counter)
    _now: dict[str, tuple[str, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, where: str, error: BaseException) -> None:
        """Record a failure of `where`."""
        what = error.error_code if isinstance(error, ServiceError) else type(error).__name__
        detail = str(error)[:200] if isinstance(error, OSError | ServiceError) else ""
        with self._lock:
            self.counts[where] += 1
            self._now[where] = (f"{what}: {detail}" if detail else what, time.monotonic())

    def clear(self, where: str) -> None:
        """Record that `where` works."""
        with self._lock:
            self._now.pop(where, None)

    def current(self) -> dict[str, str]:
        """Return where -> what, of failures that have neither been cleared nor become old."""
        since = time.monotonic() - max(CALM_SECONDS, LONGEST_PAUSE)
        with self._lock:
            return {where: what for where, (what, at) in self._now.items() if at > since}


FAULTS: Final = Faults()


def supervise(name: str, work: Callable[[], object], stop: threading.Event, faults: Faults = FAULTS) -> None:
    """Call `work` until it returns or `stop` is set; after an exception again, with growing pauses."""
    pause = FIRST_PAUSE
    while not stop.is_set():
        began = time.monotonic()
        try:
            work()
        except Exception as error:
            if time.monotonic() - began > CALM_SECONDS:
                pause = FIRST_PAUSE
            faults.note(name, error)
            log.exception("thread %s failed; it goes on in %.1f s", name, pause)
            stop.wait(pause)
            pause = min(LONGEST_PAUSE, pause * 2)
        else:
            faults.clear(name)
            return


def start_thread(
    name: str, work: Callable[[], object], stop: threading.Event, faults: Faults = FAULTS
) -> threading.Thread:
    """Start a supervised daemon thread; where none can be started now, try until `stop`."""
    pause = FIRST_PAUSE
    while True:
        thread = threading.Thread(target=supervise, args=(name, work, stop, faults), name=name, daemon=True)
        try:
            thread.start()
            return thread
        except (RuntimeError, MemoryError) as error:
            faults.note(name, error)
            log.error("thread %s does not start; again in %.1f s: %s", name, pause, error)
            if stop.wait(pause):
                return thread
            pause = min(LONGEST_PAUSE, pause * 2)
