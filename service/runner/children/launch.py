"""Starting one child process, and talking to it. Nothing here knows about pools or jobs."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from folding.errors import Cancelled, TemporaryFailure
from service.process.machine_faults import as_machine_fault
from service.runner.children.spawn import spawner
from service.runner.config import NOBODY, RunnerConfig, environment
from service.runner.files import scratch
from service.runner.jail import bubblewrap
from service.runner.jail.canary import Trap, level_of
from service.runner.jail.cgroup import Cgroup
from service.runner.jail.sandbox import JailSpec, installation
from service.runner.levels import rank

_LINE_BYTES: Final = 4 << 20
_LOG_LINES: Final = 200


def reachable(path: str | Path, uid: int) -> bool:
    """Whether a user without groups can get to `path`, judged by mode bits (ACLs only ever add)."""
    for folder in (Path(path), *Path(path).resolve().parents):
        try:
            info = folder.stat()
        except OSError:
            return False
        if info.st_uid != uid and not info.st_mode & stat.S_IXOTH:
            return False
    return True


def runner_user() -> int | None:
    """The uid that children change to: nobody's, if we are root and it can read the installation."""
    if os.geteuid() != 0:
        return None
    return NOBODY if all(reachable(path, NOBODY) for path in installation()) else None


def step_back(pid: int, nice: int) -> None:
    """Make the session of `pid` as nice as its processes will be.

    Where the kernel shares processors out by session (`sched_autogroup_enabled`), niceness counts only among
    the processes of one session, and each runner has its own: four of them would leave the service a fifth.
    The kernel takes one such wish per tenth of a second from those who are not root.
    """
    wish = Path(f"/proc/{pid}/autogroup")
    for _ in range(3 if nice else 0):
        try:
            wish.write_text(str(nice))
            return
        except BlockingIOError:
            time.sleep(0.11)
        except OSError:  # no such thing here
            return


class Child:
    """One started runner: its process, its folder, its messages."""

    def __init__(self, config: RunnerConfig, *, wrapped: bool, read: tuple[str, ...] = ()) -> None:
        self.config = config
        self.wrapped = wrapped
        self.uid = runner_user()
        # A CUDA runner must not be root inside (`sandbox.CUDA_REWRITE`); in a user namespace it has to.
        late = config.cuda and self.uid is None and os.geteuid() == 0 and not wrapped
        self.late_uid = NOBODY if late and {"privileges", "landlock"} <= {*config.layers} else None
        self.owner = self.uid if self.uid is not None else self.late_uid
        self.log: deque[str] = deque(maxlen=_LOG_LINES)
        self.canary: dict[str, str | None] = {}
        self.layers: dict[str, str] = {}
        self.level = "none"
        self.cgroup: Cgroup | None = None
        self._pending = b""
        self._messages: deque[dict[str, Any]] = deque()
        self._out = -1
        self._held = self._make_folder()
        self.folder = self._held.path
        try:
            self._start((*config.read, *read))
        except BaseException:
            self.close()
            raise

    def _start(self, read: tuple[str, ...]) -> None:
        """Make what the process needs, and the process. Raises OSError, or RuntimeError for no thread."""
        self._prepare_folders()
        if self.config.cgroup:
            self.cgroup = Cgroup.create(self.config.memory_bytes, self.config.threads)
        self._spec = self._jail(read)
        self._out, out = os.pipe()
        try:
            self.process = spawner(os.getpid()).call(lambda: self._spawn(out))
        finally:
            os.close(out)
        assert self.process.stdout is not None
        os.set_blocking(self._out, False)
        os.set_blocking(self.process.stdout.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._out, selectors.EVENT_READ, "messages")
        self._selector.register(self.process.stdout, selectors.EVENT_READ, "log")

    def _make_folder(self) -> scratch.Held:
        place = self.config.scratch.absolute()
        place.mkdir(parents=True, exist_ok=True)
        if self.uid is not None and not reachable(place, self.uid):
            place = Path(tempfile.gettempdir()).absolute()
        return scratch.make(place, "runner")

    def _prepare_folders(self) -> None:
        for name in ("in", "work", "out"):
            (self.folder / name).mkdir(mode=0o700)
        if self.owner is not None:
            self.folder.chmod(0o711)
            (self.folder / "in").chmod(0o755)
            for name in ("work", "out"):
                os.chown(self.folder / name, self.owner, self.owner)

    def _jail(self, read: tuple[str, ...]) -> JailSpec:
        memory = self.config.memory_bytes
        return JailSpec(
            folder=str(self.folder),
            read=read,
            layers=self.config.layers,
            cuda=self.config.cuda,
            private_network=self.wrapped,
            user=self.late_uid or 0,
            # Written data is bound a little above the watched figure: the watch names the reason, this holds.
            memory=0 if self.config.cuda else memory + memory // 16 + (1 << 30),
            address_space=0 if self.config.cuda else 2 * memory + (64 << 30),
            file_size=self.config.disk_bytes,
            open_files=self.config.open_files,
            nice=self.config.nice,
            parent=0 if self.wrapped else os.getpid(),
        )

    def _spawn(self, out: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-s", "-P", "-m", "service.runner.child", str(out)]
        identity: dict[str, Any] = {}
        if self.uid is not None:
            identity = {"user": self.uid, "group": self.uid, "extra_groups": []}
        process = subprocess.Popen(
            bubblewrap.wrap(command, self._spec) if self.wrapped else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(out,),
            cwd=self.folder,
            env=environment(self.folder, cuda=self.config.cuda),
            start_new_session=True,
            **identity,
        )
        with contextlib.suppress(OSError):  # first to go when the machine runs out of memory
            Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
        step_back(process.pid, self.config.nice)
        return process

    # --- talking ---------------------------------------------------------------------------------

    def send(self, **message: Any) -> None:
        """One line to the child. Raises OSError when it is gone."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def poll(self, seconds: float) -> Iterator[dict[str, Any] | None]:
        """Messages that arrive within `seconds`; None at the end of the stream."""
        ended = False
        for key, _ in self._selector.select(seconds):
            fd = key.fileobj if isinstance(key.fileobj, int) else key.fileobj.fileno()
            data = self._read(fd)
            if key.data == "log":
                self._keep_log(data, fd)
            elif not data:
                ended = True
            else:
                self._split(data)
        while self._messages:
            yield self._messages.popleft()
        if ended:
            yield None

    def _read(self, fd: int) -> bytes:
        with contextlib.suppress(BlockingIOError):
            return os.read(fd, 1 << 16)
        return b" "

    def _keep_log(self, data: bytes, fd: int) -> None:
        if not data:
            self._selector.unregister(self.process.stdout)  # type: ignore[arg-type]
            return
        self.log.extend(line[:500] for line in data.decode("utf-8", "replace").splitlines() if line.strip())

    def _split(self, data: bytes) -> None:
        self._pending += data
        *lines, self._pending = self._pending.split(b"\n")
        if len(self._pending) > _LINE_BYTES:
            self.kill()
            return
        for line in lines:
            with contextlib.suppress(ValueError, RecursionError):
                message = json.loads(line)
                if isinstance(message, dict):
                    self._messages.append(message)

    # --- starting --------------------------------------------------------------------------------

    def enter_jail(self, *, modules: tuple[str, ...], cancel: threading.Event | None = None) -> None:
        """Send the bars, wait for the canary's findings. Sets `level`. Raises TemporaryFailure, Cancelled."""
        with Trap.set_up(self.owner, knock=self.config.cuda) as trap:
            self.send(
                jail=self._spec.to_dict(),
                canary={**trap.facts(), "cuda": self.config.cuda},
                warm=list(modules),
                entry=self.config.entry,
            )
            ready = self.wait_for("ready", cancel)
            self.canary = ready.get("canary", {})
            self.layers = ready.get("layers", {})
            self.level = level_of(self.canary, trap.sprung())
        if self.cgroup is not None:
            for pid in self.pids():
                with contextlib.suppress(OSError):
                    self.cgroup.add(pid)

    def wait_until_warm(self, cancel: threading.Event | None = None) -> None:
        """Wait for the imports to be done. Raises TemporaryFailure, Cancelled."""
        self.wait_for("warm", cancel)

    def wait_for(self, kind: str, cancel: threading.Event | None = None) -> dict[str, Any]:
        """Wait for a message of one kind; return what it says. Raises TemporaryFailure, Cancelled."""
        deadline = time.monotonic() + self.config.start_seconds
        while time.monotonic() < deadline:
            if cancel is not None and cancel.is_set():
                self.close()
                raise Cancelled("The job was cancelled while its process started.")
            for message in self.poll(0.1):
                if message is None:
                    break
                if kind in message:
                    found: dict[str, Any] = message[kind]
                    return found
            if self.process.poll() is not None:
                break
        tail = " | ".join(list(self.log)[-3:])
        self.close()
        raise TemporaryFailure(
            f"A runner process did not start ({kind}): {tail}", code="runner_unavailable", stage="start",
            hint="`bnfold doctor` shows what the sandbox lacks.",
        )  # fmt: skip

    # --- watching and ending ---------------------------------------------------------------------

    def pids(self) -> list[int]:
        """The process and its descendants, outermost first, by host pid."""
        found, pending = [], [self.process.pid]
        while pending:
            pid = pending.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    children = Path(f"/proc/{pid}/task/{task}/children").read_text()
                    pending.extend(map(int, children.split()))
        return found

    def kill(self) -> None:
        """The whole group, now."""
        pids = self.pids() if self.wrapped else []
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill it, reap it, remove its folder and its group."""
        if hasattr(self, "process"):
            self.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(OSError, BrokenPipeError):
                    if stream is not None:
                        stream.close()
            if hasattr(self, "_selector"):
                self._selector.close()
        if self._out >= 0:
            os.close(self._out)
            self._out = -1
        if self.cgroup is not None:
            self.cgroup.close()
        self._held.remove()


def start_child(
    config: RunnerConfig,
    *,
    wrapped: bool,
    modules: tuple[str, ...],
    read: tuple[str, ...] = (),
    cancel: threading.Event | None = None,
) -> Child:
    """A child in its jail, judged by its canary, still importing.

    Raises: TemporaryFailure (StorageFull or Unavailable where the machine is at fault), Cancelled.
    """
    child: Child | None = None
    try:
        child = Child(config, wrapped=wrapped, read=read)
        child.enter_jail(modules=modules, cancel=cancel)
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        if child is not None:
            child.close()
        if (fault := as_machine_fault(error, "a process for a job")) is not None:
            raise fault from error
        raise TemporaryFailure(
            f"A runner process did not start: {error}", code="runner_unavailable"
        ) from error
    return child


def start_best(config: RunnerConfig, *, modules: tuple[str, ...] = (), read: tuple[str, ...] = ()) -> Child:
    """Start a child in each way that there is here, until one is fully jailed, and return the best.

    Raises: TemporaryFailure where none starts.
    """
    ways = [True, False] if config.bubblewrap and bubblewrap.available() else [False]
    best: Child | None = None
    for wrapped in ways:
        try:
            child = start_child(
                replace(config, start_seconds=20.0), wrapped=wrapped, modules=modules, read=read
            )
        except TemporaryFailure:
            continue
        child.config = config
        if best is None or rank(child.level) > rank(best.level):
            best, child = child, best
        if child is not None:
            child.close()
        if best.level == "full":
            break
    if best is None:
        raise TemporaryFailure(
            "No runner process can be started on this machine.", code="runner_unavailable",
            hint="`bnfold doctor` shows what the sandbox lacks.",
        )  # fmt: skip
    return best


def best_way(config: RunnerConfig) -> tuple[bool, str]:
    """Whether to wrap in bubblewrap here, and the level that this gives. Raises TemporaryFailure."""
    child = start_best(config)
    child.close()
    return child.wrapped, child.level
