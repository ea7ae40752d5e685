"""The command line's runner: the same jail for one job on this machine's own files, nothing warmed before.

The model is read where it lies: a file together with the regular files beside it that may belong to it, or a
folder. Everything else of the user's files stays out of reach.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from folding.errors import BnfoldError, Cancelled, InternalError, TemporaryFailure, TimedOut
from service.runner.base import Crash, JobOutcome, JobSpec, OnEvent, Status
from service.runner.children.launch import Child, reachable, runner_user, start_best, start_child
from service.runner.config import RunnerConfig
from service.runner.files.file_transfer import Staged, copy_in
from service.runner.minimum_versions import assert_minimum_versions
from service.runner.process import require, run_in

# A folder of models has tens of files; in one with more, only those that share the name's stem are shown.
_SIBLINGS: Final = 256
# Where the copy of a second model goes: the two may have files of one name.
_SECOND: Final = "_second"


class LocalRunner:
    """`JobRunner` that starts one process per job, with read access to just that job's files."""

    def __init__(self, config: RunnerConfig | None = None) -> None:
        self.config = replace(config or RunnerConfig(), warm=(), nice=0)
        self._ways: dict[bool, bool] = {}

    def start(self) -> None:
        """Nothing to prepare but the versions: a job's own process brings its own canary."""
        assert_minimum_versions()

    def level(self) -> str:
        """The level that a process on this machine reaches, by canary."""
        child = self._start(self.config, ())
        child.close()
        return child.level

    def _start(self, config: RunnerConfig, read: tuple[str, ...]) -> Child:
        """A child in the best jail that there is here; the first one of each device finds out which."""
        if (wrapped := self._ways.get(config.cuda)) is not None:
            return start_child(config, wrapped=wrapped, modules=(), read=read)
        child = start_best(config, read=read)
        self._ways[config.cuda] = child.wrapped
        return child

    def run(self, spec: JobSpec, *, on_event: OnEvent, cancel: threading.Event) -> JobOutcome:
        """Run one job, again once if its process crashes; see `JobRunner`."""
        outcome = self._attempt(spec, on_event, cancel)
        lost = (outcome.error or {}).get("code") == "device_lost"
        if lost or (outcome.status is Status.CRASHED and outcome.crash in (Crash.SIGNAL, Crash.START)):
            outcome = self._attempt(spec, on_event, cancel)
        return outcome

    def close(self) -> None:
        """Nothing idles."""

    def _attempt(self, spec: JobSpec, on_event: OnEvent, cancel: threading.Event) -> JobOutcome:
        started = time.monotonic()
        config = replace(self.config, cuda=self.config.cuda or wants_device(spec.options))
        readable = _belongs_to(spec.input)
        beside = _belongs_to(spec.second) if spec.second is not None else []
        read = tuple(map(str, [*readable, *beside, *filter(None, (spec.calibration, spec.probe))]))
        copy = (uid := runner_user()) is not None and not _all_readable(read, uid)
        child = self._start(config, () if copy else read)
        try:
            require(child.level, config)
            child.wait_until_warm()
            staged = Staged(spec.input, spec.calibration, spec.probe, spec.second)
            if copy:
                staged = self._copy(spec, (readable, beside), child.folder, uid)
            return run_in(child, spec, on_event=on_event, cancel=cancel, started=started, staged=staged)
        finally:
            child.close()

    def _copy(
        self, spec: JobSpec, files: tuple[list[Path], list[Path]], folder: Path, uid: int | None
    ) -> Staged:
        for below, paths in zip(("", _SECOND), files, strict=True):
            for path in paths:
                copy_in(path, folder, path.name, uid=uid, link=False, below=below)
        calibration, probe = [
            None if path is None else copy_in(path, folder, name, uid=uid, link=False)
            for path, name in ((spec.calibration, "_calibration.npz"), (spec.probe, "_probe.npz"))
        ]
        second = folder / "in" / _SECOND / spec.second.name if spec.second is not None else None
        return Staged(folder / "in" / spec.input.name, calibration, probe, second)


def wants_device(options: dict[str, Any]) -> bool:
    """Whether a job's options name a provider that needs what the sandbox opens for CUDA."""
    named = {str(name).lower() for key in ("providers", "require") for name in options.get(key) or ()}
    return any(word in name for name in named for word in ("cuda", "tensorrt"))


def _belongs_to(source: Path) -> list[Path]:
    """A folder itself; for a file (or the prefix of a checkpoint), the regular files that may go with it."""
    if source.is_dir():
        return [source]
    folder = source.parent
    siblings = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    if len(siblings) > _SIBLINGS:
        stem = source.name.split(".")[0]
        siblings = [p for p in siblings if p.name.startswith(stem) or p.name == "checkpoint"]
    return [p for p in siblings if p == source or p.stat().st_nlink == 1]


def _all_readable(paths: tuple[str, ...], uid: int) -> bool:
    return all(
        reachable(os.path.dirname(path), uid) and os.stat(path).st_mode & stat.S_IROTH for path in paths
    )


def error_of(outcome: JobOutcome) -> BnfoldError:
    """The error that a job which did not end well amounts to."""
    if outcome.error is not None:
        return BnfoldError.from_dict(outcome.error)
    if outcome.status is Status.CANCELLED:
        return Cancelled("The job was cancelled; nothing was written.")
    words = {
        Crash.TIMEOUT: (TimedOut, "The job ran past its time limit and was killed."),
        Crash.MEMORY: (InternalError, "The job needed more memory than its limit and was killed."),
        Crash.SANDBOX: (InternalError, "The job did what no conversion does, and the sandbox killed it."),
        Crash.START: (TemporaryFailure, "No runner process could be started."),
    }
    cls, message = words.get(outcome.crash or Crash.SIGNAL, (InternalError, "The runner process crashed."))
    code = (outcome.crash or Crash.SIGNAL).value
    return cls(message, code=code, hint=f"`bnfold explain {code}` tells what can be done.")
