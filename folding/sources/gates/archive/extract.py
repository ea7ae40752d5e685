"""Our own extractor for zip and tar archives. It never calls `extractall` and believes no declared size.

Given: an archive and an empty folder.
Result: regular files only, created exclusively inside the folder, inflated under one byte counter.

Refused: links, devices, FIFOs and sparse members; absolute, `..`, drive and backslash names; control
characters; duplicates, names that are equal on a case- or normalization-insensitive file system, and a
file in the place of a folder; encrypted members; more members or bytes than `limits.py` allows.
"""

from __future__ import annotations

import errno
import os
import tarfile
from pathlib import Path

from folding.errors import TemporaryFailure
from folding.sources.gates.archive.budget import CHUNK, READ_ERRORS, Budget, Readable
from folding.sources.gates.archive.member_names import Names
from folding.sources.gates.archive.tar_members import tar_members
from folding.sources.gates.archive.zip_members import zip_members
from folding.sources.gates.limits import LIMITS, Limits, corrupt, shown


def is_archive(path: Path) -> bool:
    """Whether `path` is a zip or tar (plain, gz, bz2, xz) by content. A `.keras` file is a zip too."""
    with path.open("rb") as file:
        head = file.read(512)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06") or head[257:262] == b"ustar":
        return True
    return head[:3] in (b"\x1f\x8b\x08", b"BZh") or head[:6] == b"\xfd7zXZ\x00"


def extract(path: Path, into: Path, limits: Limits = LIMITS) -> tuple[str, ...]:
    """Unpack the archive at `path` into the folder `into` (created if absent).

    Returns: the files, relative to `into` with `/` between parts, sorted.
    Raises: UnsafeModel (codes `unsafe_archive_*`), CorruptModel, TemporaryFailure `storage_full`.
    What was written before a refusal stays in `into`, which is the caller's to delete.
    """
    into.mkdir(parents=True, exist_ok=True)
    budget = Budget(path.stat().st_size, limits)
    names = Names(limits)
    with path.open("rb") as file:
        zipped = file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    members = zip_members(path, names, limits) if zipped else tar_members(path, names, budget, limits)
    written = []
    try:
        for name, content in members:
            _write(into, name, content, budget)
            written.append(name)
    except READ_ERRORS as error:
        corrupt(f"The archive cannot be read: {shown(error)}.")
    return tuple(sorted(written))


def _write(into: Path, name: str, content: Readable, budget: Budget) -> None:
    target = into / name
    target.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(target, flags, 0o600), "wb") as out:
            while chunk := _read(content):
                budget.spend(len(chunk), name)
                out.write(chunk)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise TemporaryFailure(
                "There is no room left to unpack the archive.", code="storage_full", stage="read",
                hint="Free disk space, or try again later.",
            ) from error  # fmt: skip
        raise


def _read(content: Readable) -> bytes:
    try:
        return content.read(CHUNK)
    except OSError as error:  # gzip.BadGzipFile, and what bz2 raises for damaged data
        raise tarfile.ReadError(str(error)) from error
