"""Serve two lanes in one worker process: the engine's own for all jobs, and one for inspections alone."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from service.jobs.queue import Consumer
from service.process.supervision import start_thread, supervise


@dataclass(frozen=True)
class Lanes:
    """`main` and, beside it, `express`; each is served again if it fails."""

    main: Consumer
    express: Consumer

    def serve(self, stop: threading.Event) -> None:
        """Block until `stop` is set and no job is left running in either lane."""
        beside = start_thread("express", lambda: self.express.serve(stop), stop)
        supervise("consumer", lambda: self.main.serve(stop), stop)
        beside.join(timeout=30)
