"""One worker: claims a job, runs it in a runner, stores the result. Both engines use it."""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from folding.errors import BnfoldError, InternalError
from folding.options import FoldOptions
from folding.ort import processors
from folding.progress import Event
from service import telemetry
from service.errors import CorruptBlob, NotFound, StorageFull, Unavailable
from service.jobs import leases, repository, results
from service.jobs.model import Job, Kind, State
from service.jobs.queue import Queue
from service.jobs.service import find_cached
from service.jobs.transitions import Cause
from service.logs import storable
from service.process.machine_faults import as_machine_fault, machine_faults
from service.process.supervision import FAULTS
from service.runner.base import Crash, JobLimits, JobOutcome, JobRunner, JobSpec, Status
from service.runner.files import scratch
from service.runner.pools import PoolRunner
from service.settings import Settings
from service.store.blobs import Blobs, Verifier, fetch
from service.store.db import Database, now

log = logging.getLogger("bnfold.worker")
T = TypeVar("T")
_CRASHES = {
    Crash.SIGNAL: "The process that ran the model died.",
    Crash.MEMORY: "The model needed more memory than one job may use.",
    Crash.TIMEOUT: "The job ran past its limit of wall-clock or processor time.",
    Crash.SANDBOX: "The model tried something that the sandbox forbids.",
    Crash.START: "No process could be started for the job.",
    Crash.LOST_LEASE: "The worker lost the job's lease.",
}
# What an attempt says when the machine is at fault, not the model.
_MACHINE_CODES = ("storage_full", "machine_exhausted")
# A runner may say what it likes as fast as it likes; so many rows it makes at once, and a second.
NOTES_AT_ONCE, NOTES_PER_SECOND = 100.0, 10.0
_LONGEST_WAIT = 60.0
_RETRIED = (Crash.SIGNAL, Crash.START, Crash.MEMORY)


@dataclass
class Attempt:
    """One claimed job while it runs here."""

    job: Job
    cancel: threading.Event = field(default_factory=threading.Event)
    lost: bool = False
    release: bool = False  # the worker shuts down: give the job back, it is not the job's fault
    last_note: float = 0.0
    last_stage: str = ""
    notes_left: float = NOTES_AT_ONCE
    held: scratch.Held | None = None  # the attempt's folder


@dataclass
class Worker:
    """Runs jobs given by id. `run` may be called from several threads at a time."""

    db: Database
    blobs: Blobs
    runner: JobRunner
    queue: Queue
    settings: Settings
    name: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")
    active: dict[str, Attempt] = field(default_factory=dict)

    def pools(self) -> list[str]:
        """Return the pools whose jobs can be run here now."""
        return self.runner.offered() if isinstance(self.runner, PoolRunner) else self.settings.pools

    def status(self) -> dict[str, Any]:
        """Return what is wrong here: pools that are not offered, threads that fail, failures so far."""
        pools = self.runner.problems() if isinstance(self.runner, PoolRunner) else {}
        return {"pools": pools, "faults": FAULTS.current(), "errors": dict(FAULTS.counts)}

    def run(self, job_id: str) -> bool:
        """Claim and run; False when there was nothing to claim."""
        job = leases.claim(self.db, self.settings, job_id, self.name)
        if job is None:
            return False
        attempt = Attempt(job)
        self.active[job.id] = attempt
        log.info("job started", extra={"job": job.id, "attempt": job.attempt})
        try:
            with telemetry.job_span(f"job {job.kind}", job.trace, job=job.id, attempt=job.attempt) as span:
                done = self._conclude(attempt)
                span.set(state=done.state.value if done is not None else "lost")
            if done is not None:
                log.info("job ended", extra={"job": done.id, "state": done.state.value})
                if done.done:
                    results.log_cost(done)
        except (StorageFull, Unavailable) as error:
            # Nothing can be written now. The lease runs out, and the reaper re-queues the job.
            log.error("job left to the reaper", extra={"job": job.id, "code": error.error_code})
        finally:
            self.active.pop(job.id, None)
            if attempt.held is not None:
                attempt.held.remove()
        return True

    def _conclude(self, attempt: Attempt) -> Job | None:
        job = attempt.job
        try:
            hit = self._earlier(job)
            if hit is not None:
                return self._retry_until_lease_ends(attempt, lambda: self._reuse(job, hit))
            outcome = self._execute(attempt)
            if attempt.lost:
                return None
            if outcome.status is Status.DONE:
                stored = self._retry_until_lease_ends(
                    attempt, lambda: results.store(self.blobs, job, outcome)
                )
                return self._retry_until_lease_ends(attempt, lambda: results.commit(self.db, job, stored))
        except Exception as defect:
            if (fault := as_machine_fault(defect, "this job")) is not None:
                return self._put_off(attempt, fault)
            if isinstance(defect, BnfoldError):
                return self._fail(attempt, defect)
            FAULTS.note("job", defect)
            log.exception("job failed inside the service", extra={"job": job.id})
            kind = type(defect).__name__
            return self._fail(
                attempt, InternalError(f"The service failed on this job ({kind}).", stage="service")
            )
        return self._retry_until_lease_ends(attempt, lambda: self._after(attempt, outcome))

    def _earlier(self, job: Job) -> Job | None:
        """A job that did the same work while this one waited."""
        if job.attempt > 1:
            return None
        return find_cached(self.db, Verifier(self.blobs), job.tenant, job.cache_key)

    def _fail(self, attempt: Attempt, error: BnfoldError) -> Job | None:
        what = error.to_dict()
        return self._retry_until_lease_ends(attempt, lambda: self._end(attempt.job, Cause.FAIL, error=what))

    def _execute(self, attempt: Attempt) -> JobOutcome:
        job, folder = attempt.job, self._folder(attempt.job)
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "in").mkdir(parents=True)
        (folder / "out").mkdir()
        attempt.held = scratch.Held(folder)
        model = folder / "in" / safe_name(job.filename)
        self._fetch(job.input_digest, model)
        data: dict[str, Path] = {}
        for role, digest in (("calibration", job.calibration_digest), ("probe", job.probe_digest)):
            if digest is not None:
                data[role] = folder / f"{role}.npz"
                self._fetch(digest, data[role])
        if job.candidate_digest is not None:
            data["candidate"] = folder / "in" / f"candidate-{job.candidate_digest[7:19]}.onnx"
            self._fetch(job.candidate_digest, data["candidate"])
        second = job.kind is Kind.FOLD and "calibration" in data
        seconds = cpu_budget(self.settings, [model, *data.values()])
        spec = JobSpec(
            job_id=job.id,
            kind=job.kind.value,
            input=model,
            out_dir=folder / "out",
            options=FoldOptions.model_validate(job.options).model_dump(mode="json"),
            limits=JobLimits(
                self.settings.job_timeout,
                self.settings.job_memory_bytes,
                cpu_seconds=2 * seconds if second else seconds,  # two artifacts
            ),
            calibration=data.get("calibration"),
            probe=data.get("probe"),
            second=data.get("candidate"),
            whole_report=job.kind is Kind.VERIFY,
            recalibrated=second,
            pool=job.pool,
        )
        return self.runner.run(spec, on_event=lambda event: self._note(attempt, event), cancel=attempt.cancel)

    def _fetch(self, digest: str, target: Path) -> None:
        try:
            fetch(self.blobs, digest, target)
        except (CorruptBlob, NotFound) as error:
            raise InternalError(
                f"The uploaded bytes {digest} are lost or damaged.",
                code=error.error_code,
                hint="Upload them again and retry the job.",
            ) from error

    def _after(self, attempt: Attempt, outcome: JobOutcome) -> Job | None:
        job = attempt.job
        spent = {"cost": results.cost(job, outcome)}
        if outcome.crash is Crash.START and (outcome.error or {}).get("code") in _MACHINE_CODES:
            return self._put_off(attempt, BnfoldError.from_dict(outcome.error or {}))
        if outcome.status is Status.ERROR and (outcome.error or {}).get("code") in _MACHINE_CODES:
            return self._postpone(attempt, BnfoldError.from_dict(outcome.error or {}))
        if outcome.status is Status.ERROR and (outcome.error or {}).get("code") == "device_lost":
            crashes = job.crashes + 1
            if crashes < self.settings.max_crashes:
                return self._end(job, Cause.CRASH, crashes=crashes, not_before=now() + 1.0, **spent)
        if outcome.status is Status.ERROR:
            return self._end(job, Cause.FAIL, error=outcome.error, sandbox=outcome.sandbox, **spent)
        if outcome.status is Status.CANCELLED:
            return self._end(job, Cause.RELEASE if attempt.release else Cause.STOPPED, **spent)
        crash = outcome.crash or Crash.SIGNAL
        crashes = job.crashes + 1
        if crash in _RETRIED and crashes < self.settings.max_crashes:
            return self._end(job, Cause.CRASH, crashes=crashes, not_before=now() + 1.0, **spent)
        error = {"class": "TemporaryFailure", "code": crash.value, "message": _CRASHES[crash]}
        if crash is Crash.TIMEOUT:
            error["class"] = "TimedOut"
        error = error | {"hint": "`bnfold explain " + crash.value + "` says what can be done."}
        detail = (outcome.error or {}).get("details") or {}
        return self._end(job, Cause.FAIL, error=error | {"details": detail}, crashes=crashes,
                         sandbox=outcome.sandbox, **spent)  # fmt: skip

    def _end(self, job: Job, cause: Cause, **values: Any) -> Job | None:
        with self.db.write() as connection:
            current = repository.load(connection, job.id)
            if current is None or current.attempt != job.attempt or current.done:
                return None
            if cause is Cause.STOPPED and current.state is State.RUNNING:
                cause = Cause.RELEASE  # cancelled here, but nobody asked for it: another worker may go on
            moved = repository.move(self.db, connection, current, cause, attempt=job.attempt, **values)
            if moved is not None and moved.state is State.QUEUED:
                self.queue.enqueue(connection, job.id, job.pool, max(0.0, moved.not_before - now()))
            return moved

    def _put_off(self, attempt: Attempt, fault: BnfoldError) -> Job | None:
        """The machine cannot run the job now (disk, descriptors, memory, a store that is away): later.

        As often as it takes, for it is not the job's doing; the job tells why it waits.
        """
        later = now() + min(_LONGEST_WAIT, 2.0 ** min(attempt.job.attempt, 6))
        log.warning("job put off", extra={"job": attempt.job.id, "code": fault.error_code})
        why = storable(fault.message)[:2000]
        return self._retry_until_lease_ends(
            attempt, lambda: self._end(attempt.job, Cause.RELEASE, not_before=later, message=why)
        )

    def _postpone(self, attempt: Attempt, error: BnfoldError) -> Job | None:
        """The disk was full while the job ran, which may be its own doing: again a few times, then fail."""
        lost = attempt.job.lost_attempts + 1
        if lost >= self.settings.max_attempts:
            return self._fail(attempt, error)
        later = now() + min(_LONGEST_WAIT, 2.0**lost)
        return self._retry_until_lease_ends(
            attempt, lambda: self._end(attempt.job, Cause.RELEASE, lost_attempts=lost, not_before=later)
        )

    def _reuse(self, job: Job, hit: Job) -> Job | None:
        values = {
            name: getattr(hit, name)
            for name in (
                "verdict",
                "headline",
                "health",
                "sandbox",
                "report_digest",
                "artifact_digest",
                "artifact_bytes",
                "recalibrated_digest",
                "recalibrated",
            )
        }
        cause = Cause.PASS if hit.state is State.SUCCEEDED else Cause.REJECT
        return self._end(job, cause, cached_from=hit.cached_from or hit.id, progress=1.0, **values)

    def _retry_until_lease_ends(self, attempt: Attempt, act: Callable[[], T]) -> T:
        """Try until it works or the lease is surely gone; the last error then goes up."""
        deadline, pause = time.monotonic() + self.settings.lease, 0.05
        while True:
            try:
                with machine_faults("the job's result"):
                    return act()
            except (StorageFull, Unavailable):
                if attempt.lost or attempt.release or time.monotonic() > deadline:
                    raise
                time.sleep(pause)
                pause = min(2.0, pause * 2)

    def _note(self, attempt: Attempt, event: Event) -> None:
        clock = time.monotonic()
        if event.stage == attempt.last_stage and not event.message and clock - attempt.last_note < 0.5:
            return
        earned = (clock - attempt.last_note) * NOTES_PER_SECOND if attempt.last_note else 0.0
        attempt.notes_left = min(NOTES_AT_ONCE, attempt.notes_left + earned)
        attempt.last_note = clock
        if attempt.notes_left < 1.0:
            return
        attempt.notes_left -= 1.0
        attempt.last_stage = event.stage
        data = {"stage": storable(event.stage)[:32], "fraction": event.fraction}
        data["message"] = storable(event.message)[:2000]
        held = (attempt.job.id, attempt.job.attempt)
        with suppress(StorageFull, Unavailable), self.db.write() as connection:  # progress may be missed
            repository.note(
                self.db, connection, held, "progress", data,
                stage=data["stage"], progress=event.fraction, message=data["message"] or None,
            )  # fmt: skip

    def _folder(self, job: Job) -> Path:
        return self.settings.scratch / f"{job.id}-{job.attempt}"


def cpu_budget(settings: Settings, files: Iterable[Path]) -> int:
    """Return the CPU seconds of one attempt, in proportion to the bytes that it is given. 0: no bound.

    A file of a kilobyte can ask for endless work; it is given what a small model needs on every processor.
    """
    if not settings.job_cpu_seconds:
        return 0
    size = sum(path.stat().st_size for path in files) / (1 << 20)
    per_core = settings.job_cpu_seconds + settings.job_cpu_seconds_per_mib * size
    return math.ceil(per_core * processors())


def safe_name(filename: str) -> str:
    """A base name without separators, control characters or leading dots."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", filename.replace("\\", "/").rsplit("/", 1)[-1])[-100:].lstrip(".")
    return name or "model"
