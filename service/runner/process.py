"""The service's runner: a pool of warm, jailed processes, each used for one job and thrown away.

A job waits for no import: while it runs, the next process warms up in the background. What a job is given
is linked or copied into the runner's own folder; what it leaves is moved out after its group is dead.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from folding.errors import BnfoldError, Cancelled, TemporaryFailure
from service.errors import StorageFull, Unavailable
from service.process.machine_faults import as_machine_fault, machine_faults
from service.runner.base import Crash, JobOutcome, JobSpec, OnEvent, Status
from service.runner.children.launch import Child, best_way, start_child
from service.runner.children.warm_processes import WarmProcesses
from service.runner.config import RunnerConfig
from service.runner.files.file_transfer import Staged, copy_in, safe_name, take_out
from service.runner.levels import weakest
from service.runner.minimum_versions import assert_minimum_versions
from service.runner.warm import ONNX_MODULES
from service.runner.watch import End, Watch, bind_memory, bind_processor

_LOG = logging.getLogger("bnfold.runner")


class SandboxUnavailable(TemporaryFailure):
    """No jail holds on this machine, and the operator has not said that this is fine."""

    code = "sandbox_unavailable"


def require(level: str, config: RunnerConfig) -> None:
    """Raise SandboxUnavailable for level `none`, unless allowed."""
    if level == "none" and not config.allow_unsandboxed:
        raise SandboxUnavailable(
            "The canary escaped: on this machine a model could harm more than its own runner.",
            hint="Use a kernel with Landlock and seccomp (Linux 5.13 or newer), install bubblewrap, or, for "
            "models that you trust, accept the risk: --allow-unsandboxed (BNFOLD_ALLOW_UNSANDBOXED=true).",
        )


class ProcessRunner:
    """`JobRunner` over real processes. Thread-safe; as many jobs at a time as callers ask for.

    Two sets of warm processes: importing TensorFlow takes most of a process's start, and a job on an ONNX
    file never needs it.
    """

    def __init__(self, config: RunnerConfig | None = None) -> None:
        self.config = config or RunnerConfig()
        self._wrapped = False
        self._level = "none"
        self._closed = threading.Event()
        self._any = WarmProcesses(self.config.slots, partial(self._make, self.config.warm))
        self._onnx = self._any
        if not set(self.config.warm) <= set(ONNX_MODULES):
            self._onnx = WarmProcesses(self.config.slots, partial(self._make, ONNX_MODULES))
        self._sets = tuple(dict.fromkeys((self._onnx, self._any)))

    def start(self) -> None:
        """Find the best jail this machine has, then begin to warm `slots` processes of each set.

        Raises: SandboxUnavailable at level `none` unless allowed; TemporaryFailure if nothing starts.
        """
        assert_minimum_versions()
        self._wrapped, self._level = best_way(self.config)
        require(self._level, self.config)
        for processes in self._sets:
            for _ in range(self.config.slots):
                processes.refill(None)

    def level(self) -> str:
        """The level that the canary found at start, or the lowest that a later process reported."""
        return self._level

    def idle(self) -> list[Child]:
        """Return the warm processes that wait."""
        return [child for processes in self._sets for child in processes.idle()]

    def making(self) -> int:
        """Return how many processes are being warmed now."""
        return sum(processes.making for processes in self._sets)

    def run(self, spec: JobSpec, *, on_event: OnEvent, cancel: threading.Event) -> JobOutcome:
        """Run one job; see `JobRunner`."""
        started = time.monotonic()
        own = self._onnx if is_onnx(spec) else self._any
        try:
            child = self._take(own, cancel)
        except Cancelled:
            return JobOutcome(Status.CANCELLED, sandbox=self._level)
        except BnfoldError as error:
            _LOG.error("no runner: %s", error.message)
            return JobOutcome(Status.CRASHED, crash=Crash.START, error=error.to_dict(), sandbox=self._level)
        # A short job keeps the machine to itself; a longer one shares it with the imports of its successor.
        hold = threading.Event()
        self._refill(hold)
        try:
            return run_in(child, spec, on_event=on_event, cancel=cancel, started=started)
        finally:
            child.close()
            hold.set()
            self._refill(None)

    def close(self) -> None:
        """Kill the idle processes; none is made any more."""
        self._closed.set()
        for processes in self._sets:
            processes.close()

    def _refill(self, hold: threading.Event | None) -> None:
        """Warm what was taken; see `WarmProcesses.refill`."""
        for processes in self._sets:
            processes.refill(hold)

    def _take(self, own: WarmProcesses, cancel: threading.Event) -> Child:
        """Return a warm child: of the job's own set, or at once one of the other set rather than a late one.

        Raises: TemporaryFailure, Cancelled (as soon as `cancel` is set).
        """
        others = [processes for processes in self._sets if processes is not own]
        deadline = time.monotonic() + 2 * self.config.start_seconds
        while True:
            if cancel.is_set():
                raise Cancelled("The job was cancelled before it started.")
            if self._closed.is_set() or time.monotonic() > deadline:
                raise TemporaryFailure("No runner process became ready.", code="runner_unavailable")
            child = own.take(0)
            for processes in others:
                child = child or processes.take(0)
            if child is None and not own.making:
                return own.make(cancel)
            child = child or own.take(0.1)
            if child is not None:
                return child

    def _make(self, modules: tuple[str, ...], cancel: threading.Event | None) -> Child:
        """Return a new warm child. Raises: TemporaryFailure, SandboxUnavailable, Cancelled."""
        cancel = cancel or self._closed
        child = start_child(self.config, wrapped=self._wrapped, modules=modules, cancel=cancel)
        try:
            require(child.level, self.config)
            with machine_faults("a process for a job"):
                child.wait_until_warm(cancel)
        except BaseException:
            child.close()
            raise
        if child.level != self._level:
            _LOG.warning("a runner reports level %s, not %s", child.level, self._level)
            self._level = weakest((self._level, child.level))
        return child


def is_onnx(spec: JobSpec) -> bool:
    """Return whether the job's file looks like an ONNX model, which needs no TensorFlow.

    It only chooses the process; every process can read every format. A ModelProto begins with its field 1,
    the IR version (3 or later), as a varint. A SavedModel begins with the same field, whose value is 1.
    """
    try:
        with spec.input.open("rb") as file:
            start = file.read(2)
    except OSError:  # a folder, or gone: the job says so
        return False
    return len(start) == 2 and start[0] == 0x08 and 3 <= start[1] < 0x80


def run_in(
    child: Child,
    spec: JobSpec,
    *,
    on_event: OnEvent,
    cancel: threading.Event,
    started: float,
    staged: Staged | None = None,
) -> JobOutcome:
    """Run `spec` in a warm child and collect what it leaves. Exceptions of `on_event` are raised again."""
    try:
        end = _execute(child, spec, staged or _stage(child, spec), on_event, cancel)
    except BnfoldError as error:
        return _outcome(child, End(error=error.to_dict()), started)
    except (OSError, MemoryError, RuntimeError) as error:
        _LOG.error("job %s: %s", spec.job_id, error)
        fault = as_machine_fault(error, "the job's files")
        told = fault.to_dict() if fault is not None else None
        return _outcome(child, End(crash=Crash.START, error=told), started)
    child.kill()
    child.process.wait()
    if end.raised is not None:
        raise end.raised
    if end.crash is not None:
        _LOG.warning("job %s: %s; %s", spec.job_id, end.crash.value, " | ".join(list(child.log)[-5:]))
    if end.crash or end.error or end.cancelled:
        return _outcome(child, end, started)
    try:
        with machine_faults("the job's results"):
            found = take_out(child.folder, spec.out_dir)
    except (StorageFull, Unavailable) as fault:
        return _outcome(child, replace(end, crash=Crash.START, error=fault.to_dict()), started)
    except BnfoldError as error:
        return _outcome(child, replace(end, error=error.to_dict()), started)
    return replace(
        _outcome(child, end, started),
        report=found.get("report.json"),
        artifact=found.get("model.onnx"),
        recalibrated=found.get("recalibrated.onnx"),
        ort_format=found.get("model.ort"),
    )


def _stage(child: Child, spec: JobSpec) -> Staged:
    link = child.level in ("strong", "full")

    def bring(path: Path | None, name: str, below: str = "") -> Path | None:
        if path is None:
            return None
        return copy_in(path, child.folder, name, uid=child.uid, link=link, below=below)

    model = bring(spec.input, safe_name(spec.input.name))
    assert model is not None
    second = bring(spec.second, safe_name(spec.second.name), "_second") if spec.second is not None else None
    data = bring(spec.calibration, "_calibration.npz"), bring(spec.probe, "_probe.npz")
    return Staged(model, *data, second=second)


def _execute(child: Child, spec: JobSpec, staged: Staged, on_event: OnEvent, cancel: threading.Event) -> End:
    bind_memory(child, spec.limits.memory_bytes or child.config.memory_bytes)
    bind_processor(child, spec.limits.cpu_seconds)
    child.send(
        job={
            "kind": spec.kind,
            "folder": str(child.folder),
            "input": str(staged.input),
            "calibration": str(staged.calibration) if staged.calibration else None,
            "probe": str(staged.probe) if staged.probe else None,
            "second": str(staged.second) if staged.second else None,
            "certificate": spec.certificate,
            "whole_report": spec.whole_report,
            "recalibrated": spec.recalibrated,
            "options": spec.options,
            "sandbox": child.level,
        }
    )
    return Watch(child, spec.limits, on_event, cancel).run()


def _outcome(child: Child, end: End, started: float) -> JobOutcome:
    if end.cancelled:
        status = Status.CANCELLED
    elif end.crash is not None:
        status = Status.CRASHED
    else:
        status = Status.ERROR if end.error is not None else Status.DONE
    return JobOutcome(
        status,
        error=end.error,
        crash=end.crash,
        sandbox=child.level,
        peak_rss=end.peak_rss,
        wall_seconds=time.monotonic() - started,
        cpu_seconds=end.used.cpu_seconds,
        read_bytes=end.used.read_bytes,
        written_bytes=end.used.written_bytes,
    )
