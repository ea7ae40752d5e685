"""Runs a job the way the service does: in a sandboxed process of its own, or here when the user insists."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from folding.progress import Listener
from folding.temporary_folder import temporary_folder

if TYPE_CHECKING:
    from folding.options import FoldOptions
    from service.runner.base import JobOutcome, JobRunner, JobSpec


@dataclass(frozen=True)
class Result:
    """What a job left in its folder; the folder is gone when `job` ends."""

    report: dict[str, Any]
    folder: Path
    sandbox: str


@contextmanager
def job(
    kind: str,
    src: Path,
    options: FoldOptions,
    listener: Listener,
    *,
    calibration: Path | None = None,
    probe: Path | None = None,
    timeout: float = 3600.0,
    scratch: Path | None = None,
    second: Path | None = None,
    certificate: bool = False,
    whole_report: bool = False,
    recalibrated: bool = False,
) -> Iterator[Result]:
    """Run one `fold`, `inspect` or `verify` job in the sandbox. Raises: BnfoldError as the job did."""
    from service.runner.base import JobLimits, JobSpec

    with temporary_folder(scratch or Path(tempfile.gettempdir())) as out_dir:
        spec = JobSpec(
            job_id="local",
            kind=kind,
            input=src.absolute(),
            out_dir=out_dir,
            options=options.model_dump(mode="json"),
            calibration=calibration.absolute() if calibration else None,
            probe=probe.absolute() if probe else None,
            limits=JobLimits(wall_seconds=timeout),
            second=second.absolute() if second else None,
            certificate=certificate,
            whole_report=whole_report,
            recalibrated=recalibrated,
        )
        outcome = _run(spec, listener)
        report = json.loads((outcome.report or out_dir / "report.json").read_text())
        yield Result(report, out_dir, outcome.sandbox)


def _run(spec: JobSpec, listener: Listener) -> JobOutcome:
    """The job on a thread, so that Ctrl-C here cancels it there; its process group is gone on return."""
    if not os.environ.get("BNFOLD_DEBUG"):  # what it logs for operators comes to a person as the error
        logging.getLogger("bnfold.runner").setLevel(logging.CRITICAL + 1)
    runner = make_runner()
    cancel = threading.Event()
    runner.start()
    try:
        with _in_background(lambda: runner.run(spec, on_event=listener, cancel=cancel)) as outcome:
            try:
                import_module("service.cli.describe")  # what shows the result, while another core works
                return _checked(outcome())
            except KeyboardInterrupt:
                cancel.set()
                raise
    finally:
        runner.close()


@contextmanager
def _in_background(work: Callable[[], JobOutcome]) -> Iterator[Callable[[], JobOutcome]]:
    done: list[JobOutcome | BaseException] = []
    # Not Thread.join: one that Ctrl-C interrupts takes the thread for ended (CPython issue 90882), and the
    # process would leave while its job's folder is still there.
    ended = threading.Event()

    def body() -> None:
        try:
            done.append(work())
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread
            done.append(error)
        finally:
            ended.set()

    def outcome() -> JobOutcome:
        while not ended.wait(0.1):  # short waits keep Ctrl-C prompt
            pass
        result = done[0]
        if isinstance(result, BaseException):
            raise result
        return result

    thread = threading.Thread(target=body, name="job")
    thread.start()
    try:
        yield outcome
    finally:
        ended.wait(30.0)


def _checked(outcome: JobOutcome) -> JobOutcome:
    from service.runner.base import Status

    if outcome.status is Status.DONE:
        return outcome
    from service.runner.local import error_of

    raise error_of(outcome)


def make_runner() -> JobRunner:
    """The sandboxed runner for this machine."""
    from service.runner.local import LocalRunner

    runner: JobRunner = LocalRunner()
    return runner
