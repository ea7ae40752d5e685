"""The archive of a `.keras` file: its zip, its members, and the gates that each of them passes."""

from __future__ import annotations

import io
import json
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, Final

from folding.sources.gates.archive.budget import READ_ERRORS, Budget
from folding.sources.gates.archive.member_names import Names
from folding.sources.gates.archive.zip_members import (
    check_zip_directory,
    check_zip_member,
    is_folder,
    open_member,
    stored_name,
)
from folding.sources.gates.hdf5 import check_stream
from folding.sources.gates.keras_config import check_keras_config, load_json
from folding.sources.gates.limits import LIMITS, Limits, corrupt, refuse, shown

_MEMBERS: Final = re.compile(
    r"config\.json|metadata\.json|model\.weights(_\d+)?\.(h5|npz)|model_\d+\.weights\.h5|model\.weights\.json|"
    r"assets(/.*)?"
)


def check_keras_archive(path: Path, limits: Limits = LIMITS) -> None:
    """Check a `.keras` file: its zip, its configuration, its weights. Raises UnsafeModel, CorruptModel."""
    check_zip_directory(path, limits)
    names, budget = Names(limits), Budget(path.stat().st_size, limits)
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                names.add(stored_name(info), folder=is_folder(info))
                check_zip_member(info)
                _check_member(stored_name(info))
            _check_json(archive, limits)
            for info in archive.infolist():
                if stored_name(info).endswith(".h5"):
                    _check_weights(archive, info, path, budget, limits)
    except (KeyError, *READ_ERRORS) as error:
        corrupt(f"The .keras file cannot be read: {shown(error)}.")


def _check_member(name: str) -> None:
    if not _MEMBERS.fullmatch(name):
        refuse(
            "unsafe_keras_member", f"A .keras file has no member {shown(name)!r}.", name=name,
            hint="Save the model again with model.save(); send other files beside it.",
        )  # fmt: skip


def _check_json(archive: zipfile.ZipFile, limits: Limits) -> None:
    strict = True
    for name in ("metadata.json", "config.json"):
        with open_member(archive, name) as file:
            text = file.read(limits.config_bytes + 1)
        try:
            config = load_json(text, name, limits)
        except json.JSONDecodeError as error:
            corrupt(f"{name} is no JSON: {error}.", name=name)
        if name == "config.json":
            check_keras_config(config, limits, archive=strict)
        elif isinstance(config, dict) and str(config.get("keras_version", "")).startswith("2."):
            strict = False  # tf-keras writes its applications' names with slashes; Keras 3 never does


def _check_weights(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, budget: Budget, limits: Limits
) -> None:
    with open_member(archive, info) as member, tempfile.TemporaryFile() as copy:
        if info.compress_type == zipfile.ZIP_STORED:
            with path.open("rb") as raw:
                check_stream(_stored(member, raw, info), info.file_size, limits, name=info.filename)
            return
        while piece := member.read(1 << 20):
            budget.spend(len(piece), info.filename)
            copy.write(piece)
        check_stream(copy, copy.tell(), limits, name=info.filename)


class _Window(io.RawIOBase):
    """Part of an open file as a file: HDF5 seeks a lot, which a zip member does slowly."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        want = max(0, min(len(view), self._size - self._at))
        self._file.seek(self._start + self._at)
        data = self._file.read(want)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


def _stored(member: Any, raw: BinaryIO, info: zipfile.ZipInfo) -> _Window:
    """The member's own bytes within the archive: its local header is 30 bytes, a name and an extra field."""
    raw.seek(info.header_offset)
    header = raw.read(30)
    start = (
        info.header_offset
        + 30
        + int.from_bytes(header[26:28], "little")
        + int.from_bytes(header[28:30], "little")
    )
    return _Window(raw, start, info.compress_size)
