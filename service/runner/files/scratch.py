"""Folders that a process makes for its jobs, and how others find out that the process is gone.

A folder is locked for as long as its maker uses it. The kernel drops the lock however the process ends, so
whoever can take the lock may remove the folder. Only folders with our names, of this user, are looked at: the
place may be the system's temporary folder. Where the file system has no locks, nothing is ever swept.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Final

from service.runner.files import safe_rmtree

# Runners, canaries, and attempts of jobs (`<job>-<attempt>`, see `Worker`).
_OURS: Final = re.compile(r"(?:runner|bnfold-canary)-.+|job_[0-9A-Za-z]{16,40}-[0-9]{1,6}")
# Between the making of a folder and its locking.
YOUNG_SECONDS: Final = 2.0
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Held:
    """A folder that is locked until `release` (or the end of the process)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, _FOLDER)
        with contextlib.suppress(OSError):  # no locks here: nobody can take it either
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self) -> None:
        """Give the lock back; the folder stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def remove(self) -> None:
        """Remove the folder and all below it, then give the lock back."""
        safe_rmtree.remove(self.path)
        self.release()


def make(place: Path, kind: str) -> Held:
    """Make a locked folder `<kind>-…` in `place`. Raises: OSError; nothing is left then."""
    folder = Path(tempfile.mkdtemp(prefix=f"{kind}-", dir=place)).resolve()
    try:
        return Held(folder)
    except BaseException:
        folder.rmdir()
        raise


def sweep(place: Path) -> int:
    """Remove the folders in `place` whose makers are gone; return how many. A place may not be there yet.

    Raises: OSError where the place cannot be listed.
    """
    latest = time.time() - YOUNG_SECONDS
    try:
        with os.scandir(place) as entries:
            names = [entry.name for entry in entries if _OURS.fullmatch(entry.name)]
    except FileNotFoundError:
        return 0
    return sum(_swept(place / name, latest) for name in names)


def _swept(folder: Path, latest: float) -> bool:
    try:
        descriptor = os.open(folder, _FOLDER)
    except OSError:
        return False  # gone already, or something else than a folder
    try:
        info = os.fstat(descriptor)
        if info.st_uid != os.geteuid() or info.st_ctime > latest:
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        safe_rmtree.remove(folder)
    except OSError:
        return False  # held by somebody who lives
    finally:
        os.close(descriptor)
    return not folder.exists()
