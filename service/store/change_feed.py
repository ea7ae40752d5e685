"""Learning that a job changed, without polling the tables: `PRAGMA data_version` or LISTEN.

PostgreSQL says which job changed; SQLite only that something did.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from service.process.supervision import start_thread
from service.store.db import CHANNEL, PROGRESS, QUEUED, Database

log = logging.getLogger("bnfold.store")
TICK = 0.02
# A file that has not changed for a second is asked ten times a second.
_IDLE_TICK, _IDLE_AFTER = 0.1, 1.0
_REMEMBERED = 1024  # changes whose words are kept; whoever is further behind looks anyway
# True for the words of a change (see `Database.touch`) that a waiter must look at.
Interest = Callable[[str], bool]


class Changes:
    """Counts changes; one background thread serves any number of cursors."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._count = 0
        self._words: deque[str | None] = deque(maxlen=_REMEMBERED)
        self._condition = threading.Condition()
        self._waiters: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._closed = threading.Event()
        self.ending = False  # the process is asked to stop: whoever waits should answer now
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to listen (once)."""
        with self._condition:
            if self._thread is None:
                target = self._watch_sqlite if self._db.sqlite else self._watch_postgres
                self._thread = start_thread("changes", target, self._closed)

    def close(self) -> None:
        """Stop the thread and wake every waiter."""
        self._closed.set()
        self.wake()
        if self._thread is not None:
            self._thread.join(timeout=3)

    def cursor(self, interest: Interest | None = None) -> CountingCursor:
        """Return a new waiter, that starts from now, for all changes or those of interest.

        With many workers nearly every change is another worker's; each that looked at the tables for it
        would make the work of the database grow with the square of their number.
        """
        self.start()
        return CountingCursor(self, interest)

    @property
    def count(self) -> int:
        """How many changes were seen."""
        return self._count

    def interrupt_waits(self) -> None:
        """End every wait, from now on; safe to call from a signal handler's thread."""
        self.ending = True
        self.wake()

    def concerns(self, seen: int, interest: Interest) -> bool:
        """Return whether a change since `seen` is of interest; one without words always is."""
        with self._condition:
            missed = self._count - seen
            if missed > len(self._words):
                return True
            return any(
                word is None or interest(word) for word in list(self._words)[len(self._words) - missed :]
            )

    def wake(self, word: str | None = None) -> None:
        """Say that something changed; without words, that anything may have."""
        with self._condition:
            self._count += 1
            self._words.append(word)
            self._condition.notify_all()
            waiters, self._waiters = self._waiters, set()
        for loop, event in waiters:
            with suppress(RuntimeError):  # its loop has ended
                loop.call_soon_threadsafe(event.set)

    async def wait_for(self, job_id: str, seen: int, timeout: float) -> int:
        """Wait until this job changed or the timeout; the count. No thread is held while waiting."""
        deadline = time.monotonic() + timeout
        while True:
            count = await self.wait_async(seen, deadline - time.monotonic())
            mine = count != seen and self.concerns(
                seen, lambda word: word.lstrip(QUEUED + PROGRESS) == job_id
            )
            if mine or count == seen or self.ending or self._closed.is_set():
                return count
            seen = count

    async def wait_async(self, seen: int, timeout: float) -> int:
        """Like `wait_past`, for the event loop: no thread is held while waiting."""
        self.start()
        waiter = (asyncio.get_running_loop(), asyncio.Event())
        with self._condition:
            if self._count != seen or self._closed.is_set():
                return self._count
            self._waiters.add(waiter)
        try:
            async with asyncio.timeout(max(0.0, timeout)):
                await waiter[1].wait()
        except TimeoutError:
            pass
        finally:
            with self._condition:
                self._waiters.discard(waiter)
        return self._count

    def wait_past(self, seen: int, timeout: float) -> int:
        """Block until the count differs from `seen` or the timeout; the count."""
        with self._condition:
            self._condition.wait_for(lambda: self._count != seen or self._closed.is_set(), timeout)
            return self._count

    def _watch_sqlite(self) -> None:
        """`data_version` changes when another connection commits; asking takes microseconds."""
        connection: Any = None
        last: object = None
        changed = time.monotonic()
        while not self._closed.wait(TICK if time.monotonic() - changed < _IDLE_AFTER else _IDLE_TICK):
            try:
                if connection is None:
                    connection = self._db.engine.raw_connection()
                cursor = connection.cursor()
                version = cursor.execute("PRAGMA data_version").fetchone()
                cursor.close()
            except Exception as error:  # noqa: BLE001  the watcher outlives any trouble of the file
                log.warning("change watcher: %s", type(error).__name__)
                connection, version = None, None
                self._closed.wait(0.5)
            if version != last:
                last, changed = version, time.monotonic()
                self.wake()
        if connection is not None:
            connection.close()

    def _watch_postgres(self) -> None:
        import psycopg

        while not self._closed.is_set():
            with suppress(psycopg.Error, OSError):
                self._listen(psycopg.connect(self._db.dsn, autocommit=True, connect_timeout=5))
            self._closed.wait(0.5)

    def _listen(self, connection: Any) -> None:
        with connection:
            connection.execute(f"LISTEN {CHANNEL}")
            self.wake()  # what happened while nobody listened
            while not self._closed.is_set():
                for change in connection.notifies(timeout=0.5, stop_after=1):
                    self.wake(change.payload)


class CountingCursor:
    """A position in the count of changes."""

    def __init__(self, changes: Changes, interest: Interest | None = None) -> None:
        self._changes, self._interest = changes, interest
        self._seen = changes.count

    def wait(self, timeout: float, stop: threading.Event | None = None) -> bool:
        """Block until something changed since the last call (True), the timeout or `stop` (False).

        `stop` is looked at ten times a second.
        """
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            slice_ = left if stop is None else min(left, 0.1)
            count = self._changes.wait_past(self._seen, max(0.0, slice_))
            if count != self._seen:
                seen, self._seen = self._seen, count
                if self._interest is None or self._changes.concerns(seen, self._interest):
                    return True
            if left <= 0 or (stop is not None and stop.is_set()):
                return False
