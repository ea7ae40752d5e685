"""Create folders and files that other users of the machine cannot read, and close those that were open."""

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress
from pathlib import Path

from service.files.durable import make_folder, sync_folder

log = logging.getLogger("bnfold.store")
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
# What a data folder holds. Another folder (`/tmp`, a home) is never changed.
_OURS = frozenset({"bnfold.db", "blobs", "pepper", "supervisor.lock", "provenance.key"})


def private_folder(path: Path) -> Path:
    """Create the folder and its parents, the folder itself with mode 0700; return it.

    A folder that exists is closed to others only if it is this user's and holds a data folder's files.
    """
    fresh = not path.exists()
    make_folder(path, 0o700)
    if fresh:
        path.chmod(0o700)  # whatever the umask took or left
        return path
    found = path.stat()
    if found.st_uid == os.geteuid() and found.st_mode & _OTHERS and not found.st_mode & stat.S_ISVTX:
        names = set(os.listdir(path))
        if not names or names & _OURS:
            _close(path, 0o700)
    return path


def private_file(path: Path) -> None:
    """Create the file with mode 0600, or take every right of other users to it away; its name is durable."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        found = path.stat()
        if found.st_uid == os.geteuid() and found.st_mode & _OTHERS:
            _close(path, 0o600)
    with suppress(PermissionError):
        sync_folder(path.parent)


def close_to_others(path: Path) -> None:
    """Take the rights of other users to an existing file away; nothing happens where there is none."""
    with suppress(FileNotFoundError):
        found = path.stat()
        if found.st_uid == os.geteuid() and found.st_mode & _OTHERS:
            _close(path, 0o600)


def _close(path: Path, mode: int) -> None:
    try:
        path.chmod(mode)
        log.warning("closed to other users", extra={"path": str(path), "mode": oct(mode)})
    except OSError as error:  # a file system without modes
        log.warning("others may read %s: %s", path, error.strerror)
