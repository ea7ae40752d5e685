"""Members of a zip archive, checked before each is opened."""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from folding.sources.gates.archive.budget import Readable
from folding.sources.gates.archive.member_names import REPACK, Names
from folding.sources.gates.limits import LIMITS, Limits, corrupt, refuse, shown


def zip_members(path: Path, names: Names, limits: Limits) -> Iterator[tuple[str, Readable]]:
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
        refuse("unsafe_archive_link", f"Member {shown(name)!r} is a link.", name=name, hint=REPACK)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        refuse("unsafe_archive_device", f"Member {shown(name)!r} is no regular file.", name=name, hint=REPACK)
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
