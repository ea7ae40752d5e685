"""One counter of inflated bytes for an archive, and what readers of archives have in common."""

from __future__ import annotations

import lzma
import struct
import tarfile
import zipfile
import zlib
from typing import Protocol

from folding.sources.gates.limits import Limits, refuse, shown

CHUNK = 1 << 20


# What the standard library raises for archives that are damaged, or made to be.
READ_ERRORS = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, struct.error,
    NotImplementedError, RuntimeError, ValueError, OverflowError, UnicodeError, IndexError,
)  # fmt: skip


class Readable(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


class Budget:
    """Counts inflated bytes of one archive and refuses the one that is too many."""

    def __init__(self, upload_bytes: int, limits: Limits) -> None:
        self.limit = min(limits.archive_bytes, max(limits.archive_floor, limits.archive_ratio * upload_bytes))
        self.used = 0

    def spend(self, count: int, name: str) -> None:
        """Take `count` bytes for member `name`."""
        self.used += count
        if self.used > self.limit:
            refuse(
                "unsafe_archive_bomb",
                f"The archive inflates past {self.limit} bytes at member {shown(name)!r}.",
                name=name,
                limit=self.limit,
                hint="Upload the files uncompressed (a plain .tar), or raise the archive limits.",
            )
