"""Counting and removing a folder that a hostile process has filled: no recursion, no path that grows.

A job may nest folders deeper than a path or Python's stack can be, hide bytes in folders that nobody may
list, or make a million empty files. Everything here works on open directories and takes bounded steps.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What an entry costs the disk besides its bytes: an inode and a place in its folder.
ENTRY_BYTES: Final = 512
# No conversion makes so many files, nests so deep, or makes folders that cannot be listed.
MAX_ENTRIES: Final = 50_000
MAX_DEPTH: Final = 64


@dataclass(frozen=True)
class Usage:
    """`bytes` on disk in `entries` files and folders; `strange` says what no conversion would do."""

    bytes: int
    entries: int
    strange: str | None = None


def usage(folders: Iterable[Path]) -> Usage:
    """What lies below `folders`, as far as it can be counted while it changes.

    Stops at the first strange thing: who does it has said enough.
    """
    total = entries = 0
    pending = [(str(folder), 0) for folder in folders]
    while pending:
        place, depth = pending.pop()
        if depth > MAX_DEPTH:
            return Usage(total, entries, f"folders more than {MAX_DEPTH} deep")
        try:
            with os.scandir(place) as found:
                for entry in found:
                    entries += 1
                    if entry.is_dir(follow_symlinks=False):
                        pending.append((entry.path, depth + 1))
                    with suppress(FileNotFoundError):
                        total += ENTRY_BYTES + entry.stat(follow_symlinks=False).st_blocks * 512
                    if entries > MAX_ENTRIES:
                        return Usage(total, entries, f"more than {MAX_ENTRIES} files and folders")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            return Usage(total, entries, f"a folder that cannot be listed ({error.strerror})")
    return Usage(total, entries)


def remove(folder: Path) -> None:
    """Remove `folder` and all below it; what cannot be removed stays, nothing is raised.

    Folders inside are moved up to the top one before they are emptied, so that depth never matters.
    """
    with suppress(OSError):
        top = os.open(folder, _FOLDER)
        try:
            _empty(top)
        finally:
            os.close(top)
    with suppress(OSError):
        os.rmdir(folder)


def _empty(top: int) -> None:
    """Remove everything in the folder `top`, level by level."""
    pending = _clear(top, top)
    while pending:
        name = pending.pop()
        with suppress(OSError):
            inner = os.open(name, _FOLDER, dir_fd=top)
            try:
                pending.extend(_clear(inner, top))
            finally:
                os.close(inner)
        with suppress(OSError):
            os.rmdir(name, dir_fd=top)


def _clear(inner: int, top: int) -> list[str]:
    """Unlink the files in `inner`; its folders become children of `top`, by new names that are returned."""
    moved = []
    for name in os.listdir(inner):
        try:
            if stat.S_ISDIR(os.stat(name, dir_fd=inner, follow_symlinks=False).st_mode):
                os.chmod(name, 0o700, dir_fd=inner)  # its own owner may have taken the right to look
                fresh = secrets.token_hex(12)
                os.rename(name, fresh, src_dir_fd=inner, dst_dir_fd=top)
                moved.append(fresh)
            else:
                os.unlink(name, dir_fd=inner)
        except OSError:
            continue
    return moved
