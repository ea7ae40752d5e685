"""Write a bundle: as one streamed zip, or as files below a folder.

The zip is stored, not deflated (weights do not shrink), with fixed times: same members, same bytes. Sizes are
known beforehand and CRCs follow each member in a data descriptor, so nothing is held in memory.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from folding.bundles.base import Member
from folding.errors import UsageError
from folding.temporary_folder import temporary_folder


class _Pipe(io.RawIOBase):
    """Write-only, unseekable: what zipfile writes is taken out again piece by piece."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> Iterator[bytes]:
        """Everything written since."""
        pieces, self._pieces = self._pieces, []
        yield from pieces


def stream(members: Iterable[Member]) -> Iterator[bytes]:
    """Yield the zip's bytes."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for member in members:
            entry = zipfile.ZipInfo(member.path, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.file_size = member.size
            with archive.open(entry, "w", force_zip64=member.size > 1 << 30) as out:
                for piece in member.open():
                    out.write(piece)
                    yield from pipe.take()
    yield from pipe.take()


def write(members: Iterable[Member], out: Path) -> Path:
    """Write a zip where `out` ends in `.zip`, else a folder; `out` appears when all of it is there.

    Members of a folder lose the first part of their path, the name of the bundle. Raises: UsageError where
    `out` is there already as a folder, or its own folder is not.
    """
    if not out.absolute().parent.is_dir():
        raise UsageError(f"There is no folder {str(out.absolute().parent)!r} to write the bundle to.")
    if out.is_dir():
        raise UsageError(f"{out} is there already.", hint="Name a new folder, or a file that ends in .zip.")
    with temporary_folder(out.absolute().parent) as scratch:
        made = scratch / "bundle"
        if out.suffix == ".zip":
            with made.open("wb") as file:
                file.writelines(stream(members))
                file.flush()
                os.fsync(file.fileno())
        else:
            for member in members:
                path = made / member.path.partition("/")[2]
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as file:
                    file.writelines(member.open())
                    file.flush()
                    os.fsync(file.fileno())
        made.replace(out)
    return out
