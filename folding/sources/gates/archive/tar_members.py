"""Members of a tar archive, plain or compressed, read as one stream under a limit."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from folding.sources.gates.archive.budget import CHUNK, Budget, Readable
from folding.sources.gates.archive.member_names import REPACK, Names
from folding.sources.gates.limits import Limits, refuse, shown


class _Xz(io.RawIOBase):
    """An .xz stream decoded under a memory limit, which `lzma.open` has no option for."""

    def __init__(self, file: IO[bytes], memory: int) -> None:
        self._file = file
        self._decoder = lzma.LZMADecompressor(memlimit=memory)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._decoder.eof:
            raw = self._file.read(CHUNK) if self._decoder.needs_input else b""
            if self._decoder.needs_input and not raw:
                raise EOFError("the .xz stream ends early")
            data = self._decoder.decompress(raw, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
        return 0


class _Counted:
    """What tarfile reads from. Counts everything, so that no header can be a bomb either."""

    def __init__(self, inner: Readable, limit: int, names: Names) -> None:
        self._inner, self._left, self._limit, self._names = inner, limit, limit, names

    def read(self, size: int = -1, /) -> bytes:
        data = _read_some(self._inner, size)
        self._left -= len(data)
        if self._left < 0:
            refuse(
                "unsafe_archive_bomb",
                f"The archive inflates past {self._limit} bytes.",
                limit=self._limit,
                hint="Upload the files uncompressed (a plain .tar), or raise the archive limits.",
            )
        return data


def _read_some(inner: Readable, size: int) -> bytes:
    try:
        return inner.read(size)
    except OSError as error:
        raise tarfile.ReadError(str(error)) from error


def _decoded(path: Path, file: IO[bytes], limits: Limits) -> Readable:
    head = file.read(6)
    file.seek(0)
    if head[:3] == b"\x1f\x8b\x08":
        return gzip.GzipFile(fileobj=file)
    if head[:3] == b"BZh":
        return bz2.BZ2File(file)
    if head == b"\xfd7zXZ\x00":
        return io.BufferedReader(_Xz(file, limits.archive_decoder_bytes), CHUNK)
    return file


def tar_members(path: Path, names: Names, budget: Budget, limits: Limits) -> Iterator[tuple[str, Readable]]:
    # Headers and padding add at most 3 blocks a member to what the files themselves may take.
    overhead = 2048 * limits.archive_members + CHUNK
    with path.open("rb") as file:
        counted = _Counted(_decoded(path, file, limits), budget.limit + overhead, names)
        with tarfile.open(fileobj=counted, mode="r|", errorlevel=2) as archive:  # type: ignore[call-overload]
            for member in archive:
                name = names.add(member.name, folder=member.isdir())
                _check_tar_member(member, budget)
                content = None if member.isdir() else archive.extractfile(member)
                if content is not None and name:
                    yield name, content


def _check_tar_member(member: tarfile.TarInfo, budget: Budget) -> None:
    name = member.name
    if member.issym() or member.islnk():
        refuse(
            "unsafe_archive_link",
            f"Member {shown(name)!r} is a link to {shown(member.linkname)!r}.",
            name=name,
            hint="Pack the file itself instead of the link (`tar --dereference`).",
        )
    if member.issparse():
        refuse(
            "unsafe_archive_sparse", f"Member {shown(name)!r} is a sparse file.", name=name,
            hint="Pack without `--sparse`.",
        )  # fmt: skip
    if not (member.isdir() or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)):
        refuse("unsafe_archive_device", f"Member {shown(name)!r} is no regular file.", name=name, hint=REPACK)
    if member.size > budget.limit - budget.used:
        budget.spend(member.size, name)
