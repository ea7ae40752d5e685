"""A folder for what is being made, removed whatever ends the work."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder in `parent`, readable by its owner only, and remove it at the end.

    `tempfile.TemporaryDirectory` leaves the folder behind when Ctrl-C comes between making and returning it.
    Here its name is chosen first, so that there is no such moment.

    Raises: OSError when the folder cannot be made.
    """
    folder = parent / f".bnfold-{secrets.token_hex(6)}"
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
