"""What the measured processes do (`RunnerConfig.entry` of `measure`): nothing, or a run at each word.

Apart from `measure`, because a process in the jail reads this folder and the installation, and no more.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from service.runner import job as real


class _Silent:
    """What one run says goes nowhere."""

    def send(self, **message: Any) -> None:
        """See `service.runner.job.Sender`."""


def run_job(job: dict[str, Any], channel: real.Sender) -> None:
    """Nothing, or a run of the input each time that the parent gives the word."""
    folder = Path(job["folder"])
    if not job["options"].get("idle"):
        channel.send(event={"stage": "here", "fraction": None, "message": str(folder)})
        number = 0
        while (word := _word(folder / "in" / f"word-{number}")) == "run":
            wall, cpu = time.perf_counter(), time.process_time()
            real.dispatch({**job, "options": {"seed": 7}, "kind": "fold"}, _Silent())
            spent = [time.process_time() - cpu, time.perf_counter() - wall]
            channel.send(event={"stage": f"ran {number}", "fraction": None, "message": json.dumps(spent)})
            number += 1
        assert word == "end"
    (folder / "out" / "report.json").write_text("{}")
    channel.send(done={})


def _word(path: Path) -> str:
    """What the parent says, as soon as it says it."""
    while not path.exists():
        time.sleep(0.001)
    return path.read_text()
