"""The parent's eye on one running job: clock, memory, disk, cancellation, and what the end means."""

from __future__ import annotations

import contextlib
import resource
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from folding.errors import BnfoldError, UnsafeModel
from folding.progress import Event
from service.runner.base import Crash, Limits, OnEvent
from service.runner.launch import Child
from service.runner.stage import used_bytes

TICK: Final = 0.05
_DISK_SECONDS: Final = 1.0
_GRACE_SECONDS: Final = 5.0


@dataclass
class End:
    """How it ended. At most one of `crash` and `error`; neither means that the child said `done`."""

    crash: Crash | None = None
    error: dict[str, Any] | None = None
    cancelled: bool = False
    peak_rss: int = 0
    raised: BaseException | None = field(default=None, repr=False)


def memory_of(pid: int) -> tuple[int, int]:
    """(resident bytes of its own, mapped writable bytes); files that are only mapped do not count."""
    values = {"RssAnon": 0, "RssShmem": 0, "VmData": 0}
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key in values:
                values[key] = int(value.split()[0]) * 1024
    return values["RssAnon"] + values["RssShmem"], values["VmData"]


def bind_memory(child: Child, memory: int) -> None:
    """Lower the hard limit of a warm child to this job's figure plus what its idle mappings reserve."""
    if child.config.cuda or "rlimits" not in child.config.layers:
        return
    pid = child.pids()[-1]
    resident, mapped = memory_of(pid)
    wanted = memory + memory // 16 + max(0, mapped - resident)
    with contextlib.suppress(OSError, ValueError):
        current = resource.prlimit(pid, resource.RLIMIT_DATA)[1]
        if current == resource.RLIM_INFINITY or wanted < current:
            resource.prlimit(pid, resource.RLIMIT_DATA, (wanted, wanted))


def bind_processor(child: Child, seconds: int) -> None:
    """CPU seconds that the child may still use."""
    if seconds and "rlimits" in child.config.layers:
        with contextlib.suppress(OSError, ValueError):
            resource.prlimit(child.pids()[-1], resource.RLIMIT_CPU, (seconds, seconds + 1))


class Watch:
    """Follows one job in `child` until its end; `run` leaves no process behind."""

    def __init__(self, child: Child, limits: Limits, on_event: OnEvent, cancel: threading.Event) -> None:
        self.child, self.limits, self.on_event, self.cancel = child, limits, on_event, cancel
        self.memory = limits.memory_bytes or child.config.memory_bytes
        self.disk = limits.disk_bytes or child.config.disk_bytes
        self.end: End = End()
        self._next_disk = 0.0

    def run(self) -> End:
        """Block until the job is over."""
        deadline = time.monotonic() + self.limits.wall_seconds
        while True:
            reason = self._overrun(deadline)
            if reason is not None:
                self.child.kill()
                return reason
            for message in self.child.poll(TICK):
                final = self._gone() if message is None else self._message(message)
                if final is not None:
                    return final

    def _overrun(self, deadline: float) -> End | None:
        end = self.end
        resident = sum(memory_of(pid)[0] for pid in self.child.pids())
        end.peak_rss = max(end.peak_rss, resident)
        if self.cancel.is_set():
            end.cancelled = True
        elif time.monotonic() > deadline:
            end.crash = Crash.TIMEOUT
        elif resident > self.memory:
            end.crash = Crash.MEMORY
        elif self._disk_is_full():
            end.error = UnsafeModel(
                f"The job wrote more than {self.disk} bytes.", code="unsafe_disk_use",
                hint="Raise the disk limit if the model is really that large.",
            ).to_dict()  # fmt: skip
        else:
            return None
        return end

    def _disk_is_full(self) -> bool:
        now = time.monotonic()
        if now < self._next_disk:
            return False
        self._next_disk = now + _DISK_SECONDS
        return used_bytes(self.child.folder) > self.disk

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
    text = {
        key: str(data[key])[:4000]
        for key in ("class", "code", "message", "hint", "stage", "layer")
        if data.get(key)
    }
    details = data.get("details")
    error = BnfoldError.from_dict({**text, "details": details if isinstance(details, dict) else {}})
    return error.to_dict()
