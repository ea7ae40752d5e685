"""External data of ONNX tensors: a plain file of the upload, and a range inside it."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import Any, Final, NoReturn

from folding.sources.gates.limits import corrupt, refuse, shown

EXTERNAL: Final = 1  # TensorProto.data_location


def check_external(tensor: Any, name: str, least: int | None, folder: Path, root: Path) -> None:
    """Check that the tensor lies in a plain file of the upload, inside that file, in at least `least` bytes.

    folder: of the model. root: of the upload, resolved. least: None for an unknown element type.
    Raises: UnsafeModel `unsafe_external_data`, CorruptModel.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    file = _file(location, name, folder, root)
    try:
        offset, length = int(entries.get("offset", "0") or 0), int(entries.get("length", "-1") or -1)
    except ValueError:
        corrupt(f"{shown(name)!r} has an offset or length that is no number.", name=name)
    size = file.stat().st_size
    length = size - offset if length < 0 and "length" not in entries else length
    if offset < 0 or length < 0:
        refuse(
            "unsafe_external_data",
            f"{shown(name)!r} asks for {length} bytes at {offset} of {shown(location)!r}.", name=name,
            hint="Save the model again with its external data.",
        )  # fmt: skip
    if offset + length > size:
        corrupt(
            f"{shown(name)!r} lies at bytes {offset}..{offset + length} of {shown(location)!r}, which "
            f"has {size}: it is cut short, or belongs to another model.",
            name=name, code="external_data_out_of_range",
            hint="Copy the data file again, from the same save as the .onnx file, and compare the sizes.",
        )  # fmt: skip
    if least is None or length < least:
        elements = math.prod(max(0, d) for d in tensor.dims)
        corrupt(
            f"{shown(name)!r} stores {length} bytes for {elements} elements.", name=name,
            code=None if "length" in entries else "external_data_out_of_range",
            hint="The data file is cut short, or belongs to another model.",
        )  # fmt: skip


def _file(location: str, name: str, folder: Path, root: Path) -> Path:
    parts = location.split("/")
    if not location or location.startswith("/") or ".." in parts or "\\" in location or "\0" in location:
        _refuse_location(location, name, "is no plain relative path")
    if "*" in parts:  # onnxruntime's own notation for an address in memory
        _refuse_location(location, name, "is no name of a file")
    path = folder / location
    for above in path.relative_to(folder).parents:
        if above != Path(".") and (folder / above).is_symlink():
            _refuse_location(location, name, "lies behind a link")
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        _missing(location, name)
    except (OSError, ValueError):
        _refuse_location(location, name, "is not among the uploaded files")
    if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
        _refuse_location(location, name, "is a link, or no regular file")
    if not path.resolve().is_relative_to(root) or path.resolve() != path.parent.resolve() / path.name:
        _refuse_location(location, name, "lies outside the upload")
    return path


def _missing(location: str, name: str) -> NoReturn:
    """Not an attack: a file that was left behind, or renamed."""
    corrupt(
        f"{shown(name)!r} is stored in {shown(location)!r}, which is not beside the model.",
        name=name, code="external_data_missing",
        hint=f"Put {shown(location)!r} beside the .onnx file, under just that name; to upload, send the "
        "folder or an archive of both.",
    )  # fmt: skip


def _refuse_location(location: str, name: str, why: str) -> NoReturn:
    refuse(
        "unsafe_external_data", f"The external data {shown(location)!r} of {shown(name)!r} {why}.",
        name=name, location=shown(location),
        hint="Put the model and its data files into one folder or archive.",
    )  # fmt: skip
