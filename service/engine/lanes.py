"""Serve two lanes in one worker process: the engine's own for all jobs, and one for inspections alone."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from service.engine.base import Consumer

log = logging.getLogger("bnfold.engine")


@dataclass(frozen=True)
class Lanes:
    """`main` decides when all is over; `express` is served beside it and is started again if it fails."""

    main: Consumer
    express: Consumer

    def serve(self, stop: threading.Event) -> None:
        """Block until `stop` is set and no job is left running in either lane."""
        beside = threading.Thread(target=self._express, args=(stop,), name="express", daemon=True)
        beside.start()
        try:
            self.main.serve(stop)
        finally:
            if stop.is_set():
                beside.join(timeout=30)

    def _express(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self.express.serve(stop)
            except Exception:
                log.exception("the lane of inspections failed; it is served again")
                stop.wait(1.0)
