"""A control group per runner, where we may make one: the kernel bounds memory and process count."""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Cgroup:
    """Folders of one runner's group (one under v2, one per controller under v1)."""

    folders: tuple[Path, ...]

    @staticmethod
    def create(memory: int, threads: int) -> Cgroup | None:
        """A new empty group of at most `memory` bytes and `threads`; None where that is not ours to have."""
        name = f"bnfold-{os.getpid()}-{secrets.token_hex(4)}"
        for attempt in (_second_version, _first_version):
            folders = attempt(name)
            if folders and _set_up(folders, memory, threads):
                return Cgroup(folders)
            for folder in folders:
                with contextlib.suppress(OSError):
                    folder.rmdir()
        return None

    def add(self, pid: int) -> None:
        """Move a process in. Raises OSError."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def ran_out(self) -> bool:
        """Whether the kernel killed something in here for memory."""
        for folder in self.folders:
            for name, key in (("memory.events", "oom_kill"), ("memory.oom_control", "oom_kill")):
                with contextlib.suppress(OSError, ValueError):
                    rows = dict(line.split() for line in (folder / name).read_text().splitlines())
                    if int(rows.get(key, "0")) > 0:
                        return True
        return False

    def close(self) -> None:
        """Remove the group; its processes must be gone."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _own() -> dict[str, str]:
    """controller (empty for v2) -> our own path in its hierarchy."""
    rows = Path("/proc/self/cgroup").read_text().splitlines()
    found = {}
    for row in rows:
        _, controllers, path = row.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _second_version(name: str) -> tuple[Path, ...]:
    with contextlib.suppress(OSError, KeyError):
        folder = _ROOT / _own()[""].lstrip("/") / name
        folder.mkdir()
        return (folder,)
    return ()


def _first_version(name: str) -> tuple[Path, ...]:
    made = []
    with contextlib.suppress(OSError, KeyError):
        own = _own()
        for controller in ("memory", "pids"):
            folder = _ROOT / controller / own[controller].lstrip("/") / name
            folder.mkdir()
            made.append(folder)
    return tuple(made)


def _set_up(folders: tuple[Path, ...], memory: int, threads: int) -> bool:
    """Write the bounds; only a group that has both is worth anything."""
    done = set()
    for folder in folders:
        for name, value in (
            ("memory.max", memory), ("memory.swap.max", 0), ("memory.limit_in_bytes", memory),
            ("pids.max", threads),
        ):  # fmt: skip
            if (folder / name).exists():
                with contextlib.suppress(OSError):
                    (folder / name).write_text(str(value))
                    done.add(name)
    return bool(done & {"memory.max", "memory.limit_in_bytes"}) and "pids.max" in done
