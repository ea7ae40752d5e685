"""The parent's eye on one running job: clock, memory, disk, cancellation, and what the end means."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import resource
import shutil
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from folding.errors import BnfoldError, InternalError, TemporaryFailure, UnsafeModel
from folding.progress import Event
from service.errors import ServiceError
from service.logs import storable
from service.runner.base import Crash, JobLimits, OnEvent
from service.runner.children.launch import Child
from service.runner.consumption import Consumption, consumption
from service.runner.files.safe_rmtree import usage

_LOG = logging.getLogger("bnfold.runner")
TICK: Final = 0.05
_DISK_SECONDS: Final = 0.25
_GRACE_SECONDS: Final = 5.0
_DETAIL_BYTES: Final = 64 << 10
_VITALS: Final = ("RssAnon", "RssShmem", "VmData", "Threads")
_CODE: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass
class End:
    """How it ended. At most one of `crash` and `error`; neither means that the child said `done`."""

    crash: Crash | None = None
    error: dict[str, Any] | None = None
    cancelled: bool = False
    peak_rss: int = 0
    used: Consumption = field(default_factory=Consumption)
    raised: BaseException | None = field(default=None, repr=False)


class Vitals(NamedTuple):
    """Of one process: resident bytes of its own (no mapped files), mapped writable bytes, threads."""

    resident: int = 0
    mapped: int = 0
    threads: int = 0


def vitals(pid: int) -> Vitals:
    """All of them nothing when it is gone."""
    found: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key in _VITALS:
                found[key] = int(value.split()[0])
    anonymous, shared, mapped, threads = (found.get(key, 0) for key in _VITALS)
    return Vitals(1024 * (anonymous + shared), 1024 * mapped, threads)


def bind_disk(child: Child, disk: int) -> int:
    """The bytes that a job may really write: its limit, or most of what the disk still has.

    One file can be no larger than that; the sum of them is watched.
    """
    free = shutil.disk_usage(child.folder).free
    bound = min(disk, free - free // 10)
    if "rlimits" in child.config.layers:
        with contextlib.suppress(OSError, ValueError):
            resource.prlimit(child.pids()[-1], resource.RLIMIT_FSIZE, (bound, bound))
    return bound


def bind_memory(child: Child, memory: int) -> None:
    """Lower the hard limit of a warm child to this job's figure plus what its idle mappings reserve."""
    if child.config.cuda or "rlimits" not in child.config.layers:
        return
    pid = child.pids()[-1]
    now = vitals(pid)
    wanted = memory + memory // 16 + max(0, now.mapped - now.resident)
    with contextlib.suppress(OSError, ValueError):
        current = resource.prlimit(pid, resource.RLIMIT_DATA)[1]
        if current == resource.RLIM_INFINITY or wanted < current:
            resource.prlimit(pid, resource.RLIMIT_DATA, (wanted, wanted))


def bind_processor(child: Child, seconds: int) -> None:
    """Bind the CPU seconds that the child may still use; the kernel counts those of its imports too."""
    if seconds and "rlimits" in child.config.layers:
        pid = child.pids()[-1]
        with contextlib.suppress(OSError, ValueError):
            bound = seconds + _used_seconds(pid)
            resource.prlimit(pid, resource.RLIMIT_CPU, (bound, bound + 1))


def _used_seconds(pid: int) -> int:
    """CPU seconds that a process has used, rounded up. Raises: OSError, ValueError."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return math.ceil((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))


class Watch:
    """Follows one job in `child` until its end; `run` leaves no process behind."""

    def __init__(self, child: Child, limits: JobLimits, on_event: OnEvent, cancel: threading.Event) -> None:
        self.child, self.limits, self.on_event, self.cancel = child, limits, on_event, cancel
        self.memory = limits.memory_bytes or child.config.memory_bytes
        self.asked = limits.disk_bytes or child.config.disk_bytes
        self.disk = bind_disk(child, self.asked)
        self.end: End = End()
        self._next_disk = 0.0
        self._pid = child.pids()[-1]
        self._start = consumption(self._pid) or Consumption()  # its imports are not the job's

    def run(self) -> End:
        """Block until the job is over."""
        deadline = time.monotonic() + self.limits.wall_seconds
        while True:
            reason = self._overrun(deadline)
            if reason is not None:
                self.child.kill()
                return reason
            for message in self.child.poll(TICK):
                self._measure()
                final = self._gone() if message is None else self._message(message)
                if final is not None:
                    return final
                if self.cancel.is_set() or time.monotonic() > deadline:
                    break  # however much a runner says, its clock is looked at after each word

    def _overrun(self, deadline: float) -> End | None:
        end = self.end
        found = [vitals(pid) for pid in self.child.pids()]
        resident = sum(one.resident for one in found)
        end.peak_rss = max(end.peak_rss, resident)
        self._measure()
        if self.cancel.is_set():
            end.cancelled = True
        elif time.monotonic() > deadline:
            end.crash = Crash.TIMEOUT
        elif resident > self.memory:
            end.crash = Crash.MEMORY
        elif len(found) + sum(one.threads for one in found) > self.child.config.threads:
            end.crash = Crash.SANDBOX
            _LOG.warning("a job was killed for its number of threads")
        else:
            self._look_at_disk()
            return end if end.crash or end.error else None
        return end

    def _measure(self) -> None:
        if (used := consumption(self._pid)) is not None:
            self.end.used = used.since(self._start)

    def _look_at_disk(self) -> None:
        now = time.monotonic()
        if now < self._next_disk:
            return
        self._next_disk = now + _DISK_SECONDS
        found = usage(self.child.folder / name for name in ("work", "out"))
        if found.strange is not None:
            self.end.crash = Crash.SANDBOX
            _LOG.warning("a job was killed for its files: %s", found.strange)
        elif found.bytes > self.disk:
            self.end.error = self._too_much().to_dict()

    def _too_much(self) -> BnfoldError:
        if self.disk < self.asked:
            return TemporaryFailure(
                f"The job wrote more than {self.disk} bytes, and the disk has no more to give.",
                code="storage_full", hint="Free space where jobs work (BNFOLD_SCRATCH_DIR), then retry.",
            )  # fmt: skip
        return UnsafeModel(
            f"The job wrote more than {self.disk} bytes.", code="unsafe_disk_use",
            hint="Raise the disk limit if the model is really that large.",
        )  # fmt: skip

    def _message(self, message: dict[str, Any]) -> End | None:
        if "event" in message:
            return self._event(message["event"])
        if "done" in message:
            return self.end
        if "memory" in message:
            self.end.crash = Crash.MEMORY
            return self.end
        if "error" in message:
            self.end.error = _checked_error(message["error"])
            return self.end
        return None

    def _event(self, data: Any) -> End | None:
        try:
            fraction = data["fraction"]
            event = Event(
                str(data["stage"])[:100],
                None if fraction is None else min(1.0, max(0.0, float(fraction))),
                str(data["message"])[:1000],
            )
        except (KeyError, TypeError, ValueError):
            return None
        try:
            self.on_event(event)
        except BaseException as error:  # noqa: BLE001  raised again by the caller once the group is dead
            self.child.kill()
            self.end.cancelled = True
            self.end.raised = error
            return self.end
        return None

    def _gone(self) -> End:
        """The stream ended without a last word: find out what happened to the process."""
        with contextlib.suppress(Exception):
            self.child.process.wait(_GRACE_SECONDS)
        code = self.child.process.poll()
        for _ in self.child.poll(0.0):
            pass  # what it still had to say, for the log
        self.end.crash = self._crash_of(code)
        return self.end

    def _crash_of(self, code: int | None) -> Crash:
        number = 0 if code is None else -code if code < 0 else code - 128 if code > 128 else 0
        if number == signal.SIGXCPU:
            return Crash.TIMEOUT
        if number == signal.SIGSYS:
            return Crash.SANDBOX
        if self.child.cgroup is not None and self.child.cgroup.ran_out():
            return Crash.MEMORY
        if number == signal.SIGKILL:  # nobody here sent it: the kernel's out-of-memory killer did
            return Crash.MEMORY
        near = self.end.peak_rss > self.memory * 9 // 10
        if number == signal.SIGABRT and (near or any("bad_alloc" in line for line in self.child.log)):
            return Crash.MEMORY
        return Crash.SIGNAL


def _checked_error(data: Any) -> dict[str, Any]:
    """A child's error in our own shape: it may have been anybody's words by then."""
    if not isinstance(data, dict):
        data = {}
    text: dict[str, Any] = {
        key: storable(str(data[key])[:4000])
        for key in ("class", "code", "message", "hint", "stage", "layer")
        if data.get(key)
    }
    if not _CODE.fullmatch(text.get("code", "")):
        text.pop("code", None)
    text["details"] = _checked_details(data.get("details"))
    error = BnfoldError.from_dict(text)
    if isinstance(
        error, ServiceError
    ):  # a conversion raises errors of the library only; these set an HTTP status
        error = BnfoldError.from_dict({**text, "class": InternalError.__name__})
    return error.to_dict()


def _checked_details(details: Any) -> dict[str, Any]:
    """Details that can be stored and sent: JSON of a sensible size, every text in it storable."""
    if not isinstance(details, dict):
        return {}
    checked = _checked(details, 8)
    try:
        size = len(json.dumps(checked, allow_nan=False))
    except ValueError:
        return {}
    return checked if size <= _DETAIL_BYTES else {"left_out": "The details were too long."}


def _checked(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict) and depth:
        return {storable(str(key)): _checked(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list) and depth:
        return [_checked(item, depth - 1) for item in value]
    return value if isinstance(value, (int, float, bool, type(None))) else storable(str(value)[:200])
