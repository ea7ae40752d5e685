"""Our own extractor for zip and tar archives. It never calls `extractall` and believes no declared size.

Given: an archive and an empty folder.
Result: regular files only, created exclusively inside the folder, inflated under one byte counter.

Refused: links, devices, FIFOs and sparse members; absolute, `..`, drive and backslash names; control
characters; duplicates, names that are equal on a case- or normalization-insensitive file system, and a
file in the place of a folder; encrypted members; more members or bytes than `limits.py` allows.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from folding.errors import TemporaryFailure
from folding.sources.gates.limits import LIMITS, Limits, corrupt, refuse, shown

_CHUNK = 1 << 20
_REPACK = "Pack the model's own files again, without this member."
# What the standard library raises for archives that are damaged, or made to be.
READ_ERRORS = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, struct.error,
    NotImplementedError, RuntimeError, ValueError, OverflowError, UnicodeError, IndexError,
)  # fmt: skip


class _Readable(Protocol):
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


class Names:
    """Checks member names against each other and against the rules for one name."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.files: dict[str, str] = {}
        self.folders: dict[str, str] = {}
        self.count = 0

    def add(self, name: str, *, folder: bool) -> str:
        """The normal form of `name` (relative, `/` between parts). Raises UnsafeModel."""
        self.count += 1
        if self.count > self.limits.archive_members:
            refuse(
                "unsafe_archive_members",
                f"The archive has more than {self.limits.archive_members} members.",
                limit=self.limits.archive_members,
                hint="Pack only the files of one model.",
            )
        parts = self._parts(name)
        if not parts:
            return ""
        for end in range(1, len(parts)):
            self._add_folder("/".join(parts[:end]))
        path = "/".join(parts)
        if folder:
            self._add_folder(path)
        else:
            self._add_file(path)
        return path

    def _parts(self, name: str) -> list[str]:
        if problem := _name_problem(name, self.limits):
            refuse("unsafe_archive_name", f"Member {shown(name)!r} {problem}.", name=name, hint=_REPACK)
        return [part for part in name.split("/") if part not in ("", ".")]

    def _add_folder(self, path: str) -> None:
        key = _folded(path)
        if key in self.files:
            self._collision(path, self.files[key])
        other = self.folders.setdefault(key, path)
        if other != path:
            self._collision(path, other)

    def _add_file(self, path: str) -> None:
        key = _folded(path)
        if self.files.get(key) == path:
            refuse(
                "unsafe_archive_duplicate", f"Member {shown(path)!r} occurs twice.", name=path, hint=_REPACK
            )
        if other := self.files.get(key, self.folders.get(key)):
            self._collision(path, other)
        self.files[key] = path

    def _collision(self, path: str, other: str) -> None:
        refuse(
            "unsafe_archive_collision",
            f"Members {shown(path)!r} and {shown(other)!r} are one name on some file systems.",
            name=path,
            hint=_REPACK,
        )


def _folded(path: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())


def _name_problem(name: str, limits: Limits) -> str | None:
    parts = name.split("/")
    if not name:
        return "has no name"
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
        return "has control characters in its name"
    if name.startswith("/") or (len(name) > 1 and name[1] == ":"):
        return "is an absolute path"
    if "\\" in name:
        return "has a backslash in its name"
    if ".." in parts:
        return "climbs out of the archive with '..'"
    if len(parts) > limits.archive_depth:
        return f"lies deeper than {limits.archive_depth} folders"
    if any(len(part.encode("utf-8", "surrogatepass")) > limits.archive_name_bytes for part in parts):
        return f"has a name longer than {limits.archive_name_bytes} bytes"
    return None


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
    members = _zip_members(path, names, limits) if zipped else _tar_members(path, names, budget, limits)
    written = []
    try:
        for name, content in members:
            _write(into, name, content, budget)
            written.append(name)
    except READ_ERRORS as error:
        corrupt(f"The archive cannot be read: {shown(error)}.")
    return tuple(sorted(written))


def _write(into: Path, name: str, content: _Readable, budget: Budget) -> None:
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


def _read(content: _Readable) -> bytes:
    try:
        return content.read(_CHUNK)
    except OSError as error:  # gzip.BadGzipFile, and what bz2 raises for damaged data
        raise tarfile.ReadError(str(error)) from error


# --- zip ------------------------------------------------------------------------------------------


def _zip_members(path: Path, names: Names, limits: Limits) -> Iterator[tuple[str, _Readable]]:
    check_zip_directory(path, limits)
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = names.add(stored_name(info), folder=is_folder(info))
            check_zip_member(info)
            if is_folder(info) or not name:
                continue
            with open_member(archive, info) as content:
                yield name, content


def open_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo | str) -> IO[bytes]:
    """`archive.open` for archives that may lie about where a member is. Raises BadZipFile, KeyError."""
    try:
        return archive.open(info)
    except OSError as error:  # sought before the file's beginning
        raise zipfile.BadZipFile(str(error)) from error


def stored_name(info: zipfile.ZipInfo) -> str:
    """The name as stored: zipfile cuts at NUL and turns foreign separators, which would hide an attack."""
    return info.orig_filename


def is_folder(info: zipfile.ZipInfo) -> bool:
    """By the stored name; zipfile's own answer fails on one of which it left nothing."""
    return stored_name(info).endswith("/")


def check_zip_member(info: zipfile.ZipInfo) -> None:
    """Refuse links, devices, encryption and uncommon compression. Raises UnsafeModel."""
    name = info.orig_filename
    mode = info.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        refuse("unsafe_archive_link", f"Member {shown(name)!r} is a link.", name=name, hint=_REPACK)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        refuse(
            "unsafe_archive_device", f"Member {shown(name)!r} is no regular file.", name=name, hint=_REPACK
        )
    if info.flag_bits & 0x1:
        refuse(
            "unsafe_archive_encrypted", f"Member {shown(name)!r} is encrypted.", name=name,
            hint="Pack the model without a password.",
        )  # fmt: skip
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        refuse(
            "unsafe_archive_method", f"Member {shown(name)!r} uses compression method {info.compress_type}.",
            name=name, hint="Pack the zip with 'stored' or 'deflate', or use a .tar.",
        )  # fmt: skip


def check_zip_directory(path: Path, limits: Limits = LIMITS) -> None:
    """Bound the central directory before zipfile reads all of it into memory."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - (1 << 16) - 22))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + 22 > len(tail):
        corrupt("The zip archive has no end record; it is truncated.")
    directory: int = struct.unpack_from("<I", tail, at + 12)[0]
    if directory == 0xFFFFFFFF and (at64 := tail.rfind(b"PK\x06\x06")) >= 0 and at64 + 56 <= len(tail):
        directory = struct.unpack_from("<Q", tail, at64 + 40)[0]
    if directory > limits.archive_directory_bytes:
        refuse(
            "unsafe_archive_members",
            f"The zip directory takes {directory} bytes; at most {limits.archive_directory_bytes} are read.",
            limit=limits.archive_directory_bytes,
            hint="Pack only the files of one model.",
        )


# --- tar ------------------------------------------------------------------------------------------


class _Xz(io.RawIOBase):
    """An .xz stream decoded under a memory limit, which `lzma.open` has no option for."""

    def __init__(self, file: IO[bytes], memory: int) -> None:
        self._file = file
        self._decoder = lzma.LZMADecompressor(memlimit=memory)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._decoder.eof:
            raw = self._file.read(_CHUNK) if self._decoder.needs_input else b""
            if self._decoder.needs_input and not raw:
                raise EOFError("the .xz stream ends early")
            data = self._decoder.decompress(raw, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
        return 0


class _Counted:
    """What tarfile reads from. Counts everything, so that no header can be a bomb either."""

    def __init__(self, inner: _Readable, limit: int, names: Names) -> None:
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


def _read_some(inner: _Readable, size: int) -> bytes:
    try:
        return inner.read(size)
    except OSError as error:
        raise tarfile.ReadError(str(error)) from error


def _decoded(path: Path, file: IO[bytes], limits: Limits) -> _Readable:
    head = file.read(6)
    file.seek(0)
    if head[:3] == b"\x1f\x8b\x08":
        return gzip.GzipFile(fileobj=file)
    if head[:3] == b"BZh":
        return bz2.BZ2File(file)
    if head == b"\xfd7zXZ\x00":
        return io.BufferedReader(_Xz(file, limits.archive_decoder_bytes), _CHUNK)
    return file


def _tar_members(path: Path, names: Names, budget: Budget, limits: Limits) -> Iterator[tuple[str, _Readable]]:
    # Headers and padding add at most 3 blocks a member to what the files themselves may take.
    overhead = 2048 * limits.archive_members + _CHUNK
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
        refuse(
            "unsafe_archive_device", f"Member {shown(name)!r} is no regular file.", name=name, hint=_REPACK
        )
    if member.size > budget.limit - budget.used:
        budget.spend(member.size, name)


# --- folders --------------------------------------------------------------------------------------


def list_folder(root: Path, limits: Limits = LIMITS) -> tuple[str, ...]:
    """The regular files under `root`, relative and sorted, under the rules for archive members.

    Raises: UnsafeModel for links (also links to folders), devices, and names that an archive may not have.
    """
    names = Names(limits)
    found: list[str] = []
    pending = [root]
    while pending:
        folder = pending.pop()
        for entry in sorted(os.scandir(folder), key=lambda e: e.name):
            relative = Path(entry.path).relative_to(root).as_posix()
            if entry.is_symlink():
                refuse(
                    "unsafe_archive_link", f"{shown(relative)!r} is a link.", name=relative,
                    hint="Copy the file itself into the folder (`cp -L`).",
                )  # fmt: skip
            if entry.is_dir():
                names.add(relative, folder=True)
                pending.append(Path(entry.path))
            elif entry.is_file():
                found.append(names.add(relative, folder=False))
            else:
                refuse(
                    "unsafe_archive_device", f"{shown(relative)!r} is no regular file.", name=relative,
                    hint="Give the folder that holds only the model's files.",
                )  # fmt: skip
    return tuple(sorted(found))
