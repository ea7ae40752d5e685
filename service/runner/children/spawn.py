"""One thread that starts all child processes of this process."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from typing import TypeVar

_T = TypeVar("_T")


class Spawner:
    """One thread that starts all children: a child dies with the *thread* that made it."""

    def __init__(self) -> None:
        self._calls: queue.Queue[Callable[[], None]] = queue.Queue()
        threading.Thread(target=self._work, name="runner-spawner", daemon=True).start()

    def _work(self) -> None:
        while True:
            with contextlib.suppress(MemoryError):  # this thread never ends: runners would end with it
                self._calls.get()()

    def call(self, function: Callable[[], _T]) -> _T:
        """Run it on the thread and hand its result back."""
        future: Future[_T] = Future()

        def work() -> None:
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001  raised again where it was asked for
                future.set_exception(error)

        self._calls.put(work)
        return future.result()


@cache
def spawner(pid: int) -> Spawner:
    """The spawner of this process (threads do not survive a fork, hence the key)."""
    return Spawner()
