"""How long work tells where it is. A listener is any callable; the default says nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Event:
    """One step of progress. `fraction` is of the stage, in 0..1, None where it cannot be known."""

    stage: str
    fraction: float | None = None
    message: str = ""


Listener = Callable[[Event], None]


def ignore_progress(event: Event) -> None:
    """The listener of those who do not listen."""


@dataclass
class Progress:
    """Hands events to a listener and keeps the seconds of each stage."""

    listener: Listener = ignore_progress
    timings: dict[str, float] = field(default_factory=dict)

    def report(self, stage: str, fraction: float | None = None, message: str = "") -> None:
        """Tell the listener. A listener that raises (cancellation) ends the job with that exception."""
        self.listener(Event(stage, fraction, message))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; nested or repeated stages of one name add up."""
        self.report(name, 0.0)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - start
        self.report(name, 1.0)
