"""Folders whose names survive a power cut: a new name is on the disk once its folder was flushed."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable. Raises: OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path, mode: int = 0o777) -> None:
    """Create the folder and its parents, each durably; nothing happens where it is there.

    The folder's own name is flushed in any case: whoever created it may have been killed before that.
    """
    missing = [each for each in path.parents if not each.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=mode, exist_ok=True)
    for each in (path, *missing):
        with suppress(PermissionError):  # a parent that may be passed through and not be read
            sync_folder(each.parent)
