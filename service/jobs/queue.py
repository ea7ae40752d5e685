"""The engine's two sides: what the API needs (`Queue`) and what a worker process runs (`serve`).

State, lease, attempt and results are rows in our tables, so an engine may deliver an id twice or late.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

from sqlalchemy import Connection


class Queue(Protocol):
    """The API's side of an engine."""

    def enqueue(self, connection: Connection, job_id: str, pool: str, delay: float = 0.0) -> None:
        """Hand the job over inside the caller's transaction: both happen, or neither."""

    def start(self) -> None:
        """Begin whatever keeps workers alive."""

    def stop(self) -> None:
        """End it."""

    def health(self) -> dict[str, Any]:
        """`{"ok": bool, ...}` for /readyz."""

    def maintain(self) -> int:
        """Mend what got out of step between queue and table; how much. Called now and then."""


class Consumer(Protocol):
    """The worker's side: take ids and give each to `run` until `stop` is set."""

    def serve(self, stop: threading.Event) -> None:
        """Blocks. Returns when `stop` is set and no job is left running."""
