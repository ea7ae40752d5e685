"""The seam between the engines and whatever really runs a model: one job, one runner, one outcome.

Given: a `JobSpec` whose paths all lie in a folder made for this attempt.
Result: a `JobOutcome`; a runner never raises for what a model does. It is called from a worker thread,
calls `on_event` from that thread (or one of its own) and returns soon after `cancel` is set.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from folding.progress import Event


class Status(StrEnum):
    """How an attempt ended, before anybody looks at the verdict."""

    DONE = "done"  # a report (and for a fold an artifact) was written; its verdict may still be `fail`
    ERROR = "error"  # folding raised a BnfoldError: the user's or the model's doing, never retried
    CRASHED = "crashed"  # the process died or was killed; `crash` says how, retried once
    CANCELLED = "cancelled"  # `cancel` was set and the process group is gone


class Crash(StrEnum):
    """Why a runner process is gone. The value is also the `code` of the job's error."""

    SIGNAL = "runner_crashed"
    MEMORY = "out_of_memory"
    TIMEOUT = "timed_out"
    LOST_LEASE = "lost_lease"
    SANDBOX = "sandbox_violation"
    START = "runner_unavailable"  # could not be started at all; worth another try


@dataclass(frozen=True)
class JobLimits:
    """What one attempt may use. Zero or None: the runner's own default."""

    wall_seconds: float = 3600.0
    memory_bytes: int = 0
    disk_bytes: int = 0
    cpu_seconds: int = 0


@dataclass(frozen=True)
class JobSpec:
    """One attempt.

    `input` keeps the uploaded file's base name where that is safe (formats are sniffed by content). For
    `kind == "fold"` the artifact goes to `out_dir/model.onnx`, for both kinds the report (or inspection)
    goes to `out_dir/report.json`; `inspect` also writes the raw statistics to `out_dir/stats.npz`.
    `verify` compares `input` with the ONNX file `second` (`certificate`: checks its fold in closed form)
    and writes the verification as its report, or, with `whole_report`, a report as of a fold.
    `options` is `FoldOptions.model_dump(mode="json")`. All paths are absolute.
    """

    job_id: str
    kind: str  # "fold" | "inspect" | "verify"
    input: Path
    out_dir: Path
    options: dict[str, Any] = field(default_factory=dict)
    calibration: Path | None = None
    probe: Path | None = None
    limits: JobLimits = field(default_factory=JobLimits)
    second: Path | None = None
    certificate: bool = False
    whole_report: bool = False
    recalibrated: bool = False  # also write `out_dir/recalibrated.onnx`, where calibration data asks for it
    pool: str = "cpu"


@dataclass(frozen=True)
class JobOutcome:
    """What became of it. `error` is `BnfoldError.to_dict()`, without server paths in its text."""

    status: Status
    report: Path | None = None
    artifact: Path | None = None
    recalibrated: Path | None = None
    ort_format: Path | None = None
    error: dict[str, Any] | None = None
    crash: Crash | None = None
    sandbox: str = "none"  # the level this attempt really ran at: full, strong, partial, none
    peak_rss: int = 0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    read_bytes: int = 0
    written_bytes: int = 0


OnEvent = Callable[[Event], None]


class JobRunner(Protocol):
    """One implementation per way of isolation. Thread-safe: several jobs may run at a time."""

    def start(self) -> None:
        """Pre-warm the pool and find out the sandbox level. Called once, before the first `run`."""

    def run(self, spec: JobSpec, *, on_event: OnEvent, cancel: threading.Event) -> JobOutcome:
        """Run one job to its end. Exceptions of `on_event` cancel the job and are raised again."""

    def level(self) -> str:
        """The sandbox level as found by canary: full, strong, partial or none."""

    def close(self) -> None:
        """Kill idle runners. Running jobs must have been cancelled before."""
