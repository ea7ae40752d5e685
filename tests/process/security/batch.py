"""A runner's work in tests: many models in one jailed process, one event for each. Used as `entry`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from service.runner import job as real


class _Collect:
    """Keeps the last message of one model instead of sending it."""

    def __init__(self) -> None:
        self.last: dict[str, Any] = {}

    def send(self, **message: Any) -> None:
        """See `service.runner.job.Sender`."""
        if "event" not in message:
            self.last = message


def run_job(job: dict[str, Any], channel: real.Sender) -> None:
    """Run every file that the manifest (the job's input) names; report each by its position."""
    for index, path in json.loads(Path(job["input"]).read_text()):
        channel.send(event={"stage": "begin", "fraction": None, "message": json.dumps([index])})
        seen = _Collect()
        real.run_job({**job, "input": path, "kind": "fold"}, seen)
        error = seen.last.get("error") or {}
        code = (
            "ok" if "done" in seen.last else "out_of_memory" if "memory" in seen.last else error.get("code")
        )
        told = [index, code, str(error.get("message"))[:300], error.get("class")]
        channel.send(event={"stage": "end", "fraction": None, "message": json.dumps(told)})
    channel.send(done={})
