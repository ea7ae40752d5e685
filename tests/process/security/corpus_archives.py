"""Archives that climb out, collide, explode, or are not what they say."""

# A table of one case a line reads better than wrapped brackets.

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

Write = Callable[[Path], Path | None]
MODEL = b"\x08\x08\x12\x04none"


def _tar(
    *members: tuple[str, bytes, bytes, str], mode: str = "w", pax: dict[str, str] | None = None
) -> Write:
    def write(home: Path) -> Path:
        path = home / "model.tar"
        with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as archive:
            for name, data, kind, link in members:
                info = tarfile.TarInfo(name)
                info.size, info.type, info.linkname = len(data), kind, link
                info.pax_headers = pax or {}
                archive.addfile(info, io.BytesIO(data))
        return path

    return write


def _file(name: str, data: bytes = MODEL) -> tuple[str, bytes, bytes, str]:
    return name, data, tarfile.REGTYPE, ""


def _zip(*names: str, data: bytes = MODEL, method: int = zipfile.ZIP_DEFLATED, attributes: int = 0) -> Write:
    def write(home: Path) -> Path:
        path = home / "model.zip"
        with zipfile.ZipFile(path, "w", method) as archive:
            for name in names:
                info = zipfile.ZipInfo(name)
                info.filename = info.orig_filename = name
                info.external_attr, info.compress_type = attributes, method
                archive.writestr(info, data)
        return path

    return write


def _raw(name: str, data: Callable[[], bytes]) -> Write:
    def write(home: Path) -> Path:
        (home / name).write_bytes(data())
        return home / name

    return write


def _patched(write: Write, change: Callable[[bytes], bytes]) -> Write:
    def patched(home: Path) -> Path | None:
        path = write(home)
        assert path is not None
        path.write_bytes(change(path.read_bytes()))
        return path

    return patched


def _zip_flag(data: bytes) -> bytes:
    """Set the encryption bit in both headers."""
    changed = bytearray(data)
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(magic)
        changed[start + at] |= 1
    return bytes(changed)


def _zip_sizes(data: bytes) -> bytes:
    """Declare a size of 10 bytes where a megabyte follows."""
    changed = bytearray(data)
    central = data.find(b"PK\x01\x02")
    struct.pack_into("<I", changed, central + 24, 10)
    return bytes(changed)


def _overlapping(home: Path) -> Path:
    """Two directory entries that share one local header."""
    path = home / "model.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"\0" * 100_000)
        archive.filelist.append(archive.filelist[0])
    return path


def _pickle() -> bytes:
    class Evil:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, ("touch /tmp/bnfold-pwned",)

    return pickle.dumps(Evil())


def _pytorch(home: Path) -> Path:
    path = home / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", _pickle())
        archive.writestr("archive/version", "3")
    return path


def _folder_link(home: Path) -> Path:
    folder = home / "model"
    folder.mkdir()
    (folder / "saved_model.pb").symlink_to("/etc/passwd")
    return folder


def _folder_fifo(home: Path) -> Path:
    folder = home / "model"
    folder.mkdir()
    os.mkfifo(folder / "saved_model.pb")
    return folder


def _folder_tree_link(home: Path) -> Path:
    folder = home / "model"
    folder.mkdir()
    (folder / "variables").symlink_to("/etc")
    (folder / "saved_model.pb").write_bytes(b"\x08\x01\x12\x02\x0a\x00")
    return folder


def _many(home: Path) -> Path:
    path = home / "model.tar"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for index in range(10_001):
            archive.addfile(tarfile.TarInfo(f"f{index}"))
    return path


def _directory_bomb(home: Path) -> Path:
    """An end record that declares a directory of 4 GiB."""
    path = home / "model.zip"
    path.write_bytes(
        b"PK\x03\x04" + b"\0" * 26 + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 9, 9, 0xFFFFFFF0, 0, 0)
    )
    return path


def _pax_bomb(home: Path) -> Path:
    """An extended header of 120 MiB, which readers take into memory whole."""
    path = home / "model.tar.gz"
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 120 << 20
    with gzip.open(path, "wb", compresslevel=1) as out:
        out.write(header.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(120):
            out.write(b"\0" * (1 << 20))
    return path


ZEROS = b"\0" * (70 << 20)


def _central(at: int, value: bytes) -> Callable[[bytes], bytes]:
    """Replace bytes of the first entry of a zip's directory."""

    def patch(data: bytes) -> bytes:
        changed = bytearray(data)
        begin = data.find(b"PK\x01\x02") + at
        changed[begin : begin + len(value)] = value
        return bytes(changed)

    return patch


def entries() -> Iterator[tuple[str, Write, str]]:
    """(name, writer, codes)."""
    name = "unsafe_archive_name"
    yield "tar_parent", _tar(_file("../evil.onnx")), name
    yield "tar_parent_inside", _tar(_file("a/../../evil.onnx")), name
    yield "tar_absolute", _tar(_file("/etc/cron.d/evil")), name
    yield "tar_backslash", _tar(_file("..\\evil.onnx")), name
    yield "tar_drive", _tar(_file("C:/evil.onnx")), name
    yield "tar_newline", _tar(_file("a\nb.onnx")), name
    yield "tar_escape_sequence", _tar(_file("\x1b[2J.onnx")), name
    yield "tar_long_name", _tar(_file("a" * 300)), name
    yield "tar_deep", _tar(_file("/".join("d" * 40) + "/x")), name
    yield "zip_parent", _zip("../evil.onnx"), name
    yield "zip_absolute", _zip("/evil.onnx"), name
    yield "zip_nul", _patched(_zip("model.onnx!../../x"), lambda d: d.replace(b"onnx!", b"onnx\0")), name
    yield "zip_backslash", _zip("a\\..\\..\\evil"), name
    yield "zip_unc", _zip("//server/share/x"), name
    yield "tar_symlink", _tar(("m", b"", tarfile.SYMTYPE, "/etc/passwd")), "unsafe_archive_link"
    yield (
        "tar_symlink_folder",
        _tar(("d", b"", tarfile.SYMTYPE, "/tmp"), _file("d/evil")),
        "unsafe_archive_link",
    )
    yield "tar_hardlink", _tar(_file("a"), ("b", b"", tarfile.LNKTYPE, "a")), "unsafe_archive_link"
    yield "tar_hardlink_out", _tar(("b", b"", tarfile.LNKTYPE, "/etc/shadow")), "unsafe_archive_link"
    yield "zip_symlink", _zip("m", data=b"/etc/passwd", attributes=0o120777 << 16), "unsafe_archive_link"
    yield "tar_fifo", _tar(("f", b"", tarfile.FIFOTYPE, "")), "unsafe_archive_device"
    yield "tar_character_device", _tar(("zero", b"", tarfile.CHRTYPE, "")), "unsafe_archive_device"
    yield "tar_block_device", _tar(("disk", b"", tarfile.BLKTYPE, "")), "unsafe_archive_device"
    yield "zip_device", _zip("zero", attributes=0o020666 << 16), "unsafe_archive_device"
    yield "tar_sparse", _tar(_file("s"), pax={"GNU.sparse.major": "1", "GNU.sparse.minor": "0",
                                               "GNU.sparse.name": "s", "GNU.sparse.realsize": str(1 << 50)}
                             ), "unsafe_archive_sparse broken"  # fmt: skip
    yield "tar_duplicate", _tar(_file("a"), _file("a")), "unsafe_archive_duplicate"
    yield "tar_case", _tar(_file("Model.onnx"), _file("model.onnx")), "unsafe_archive_collision"
    yield "tar_unicode", _tar(_file("caf\u00e9"), _file("cafe\u0301")), "unsafe_archive_collision"
    yield "tar_ligature", _tar(_file("\ufb01le"), _file("file")), "unsafe_archive_collision"
    yield "tar_file_and_folder", _tar(_file("a"), _file("a/b")), "unsafe_archive_collision"
    yield "tar_folder_case", _tar(_file("A/x"), _file("a/y")), "unsafe_archive_collision"
    yield "tar_members", _many, "unsafe_archive_members"
    yield "zip_directory", _directory_bomb, "unsafe_archive_members"
    yield "zip_bomb", _zip("a", data=ZEROS), "unsafe_archive_bomb"
    yield "gzip_bomb", _tar(_file("a", ZEROS), mode="w:gz"), "unsafe_archive_bomb"
    yield "bzip2_bomb", _raw("m.tar.bz2", lambda: bz2.compress(_plain_tar(ZEROS), 1)), "unsafe_archive_bomb"
    yield (
        "xz_bomb",
        _raw("m.tar.xz", lambda: lzma.compress(_plain_tar(ZEROS), preset=0)),
        "unsafe_archive_bomb",
    )
    yield "gzip_of_gzip", _raw("m.tar.gz", lambda: gzip.compress(gzip.compress(_plain_tar(MODEL)))), "broken"
    yield "pax_header_bomb", _pax_bomb, "unsafe_archive_bomb"
    yield "zip_encrypted", _patched(_zip("a"), _zip_flag), "unsafe_archive_encrypted"
    yield "zip_lzma", _zip("a", method=zipfile.ZIP_LZMA), "unsafe_archive_method"
    yield "zip_lying_size", _patched(_zip("a", data=os.urandom(1 << 16)), _zip_sizes), "broken"
    yield "zip_member_before_the_file", _patched(_zip("a"), _central(42, b"\xf0\xff\xff\x7f")), "broken"
    yield "zip_directory_moved", _patched(_zip("a"), lambda d: d[:-6] + b"\xff\xff" + d[-4:]), "broken"
    yield "zip_from_the_future", _patched(_zip("a"), _central(6, b"\x9c\x00")), "broken"
    yield "zip_no_name", _patched(_zip("a"), _central(46, b"\0")), f"{name} broken"
    yield "zip_overlapping", _overlapping, "unsafe_archive_duplicate"
    yield "zip_truncated", _patched(_zip("a", data=MODEL * 100), lambda d: d[:-40]), "broken"
    yield "tar_truncated", _patched(_tar(_file("a", os.urandom(9000))), lambda d: d[:3000]), "broken"
    yield (
        "gzip_truncated",
        _patched(_tar(_file("a", os.urandom(9000)), mode="w:gz"), lambda d: d[:3000]),
        "broken",
    )
    yield "xz_dictionary", _raw("m.tar.xz", _xz_dictionary), "broken"
    yield "zip_empty", _zip(), "broken"
    yield "tar_of_nothing", _tar(), "broken"
    yield "tar_script_name", _tar(_file('<script>alert("x")<_script>.onnx', b"\x08\x08")), "broken"
    yield "tar_direction_override", _tar(_file("gpj.\u202eonnx")), "broken"
    yield "zip_of_pickle", _pytorch, "broken"
    yield "pickle", _raw("model.pkl", _pickle), "broken"
    yield "elf", _raw("model.onnx", lambda: Path(sys_executable()).read_bytes()[:4096]), "broken"
    yield "html", _raw("model.onnx", lambda: b"<html><script>alert(1)</script>"), "broken"
    yield "shell", _raw("model.pb", lambda: b"#!/bin/sh\ntouch /tmp/bnfold-pwned\n"), "broken"
    yield "empty", _raw("model.onnx", bytes), "broken"
    yield "zeros", _raw("model.onnx", lambda: bytes(4096)), "broken"
    yield "noise", _raw("model.pb", lambda: bytes(range(256)) * 64), "broken"
    yield "folder_link", _folder_link, "unsafe_archive_link"
    yield "folder_tree_link", _folder_tree_link, "unsafe_archive_link"
    yield "folder_fifo", _folder_fifo, "unsafe_archive_device"


def sys_executable() -> str:
    """The interpreter: an ELF file that is certainly there."""
    import sys

    return sys.executable


def _plain_tar(data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("a")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _xz_dictionary() -> bytes:
    """A stream that asks its reader for a dictionary of 1.5 GiB."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 12}]
    data = bytearray(lzma.compress(_plain_tar(MODEL), format=lzma.FORMAT_XZ, filters=filters))
    at = data.find(b"\x21\x01")  # the LZMA2 filter's id and the size of its one property
    data[at + 2] = 39
    header = bytes(data[12 : 12 + (data[12] + 1) * 4 - 4])
    import zlib

    data[12 + len(header) : 16 + len(header)] = zlib.crc32(header).to_bytes(4, "little")
    return bytes(data)
