"""Users' own arrays (`.npz`: probes, calibration data) are uploads too.

Each member is judged by its header before it is read: NumPy allocates what a header declares, and a hundred
bytes can declare a petabyte. Nothing is ever unpickled.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
from pathlib import Path
from typing import IO, Final, NoReturn

import numpy as np

from folding.errors import BnfoldError, UsageError
from folding.sources.gates.archive.budget import READ_ERRORS
from folding.sources.gates.archive.zip_members import (
    check_zip_directory,
    check_zip_member,
    open_member,
    stored_name,
)
from folding.sources.gates.limits import LIMITS, Limits, shown

_HINT: Final = "Write it with numpy.savez(file, input_name=array, ...), numeric arrays only."
# What NumPy raises, besides, for a header that is no Python literal.
_HEADER_ERRORS: Final = (SyntaxError, TypeError, RecursionError, tokenize.TokenError, AttributeError)


def read_npz(path: Path, what: str, limits: Limits = LIMITS) -> dict[str, np.ndarray]:
    """Arrays by name. `what` names the upload in messages (`probe`). Raises UsageError, UnsafeModel."""
    try:
        check_zip_directory(path, limits)
        with zipfile.ZipFile(path) as archive:
            left, seen = limits.npz_bytes, set[str]()
            for info in archive.infolist():
                if (name := stored_name(info)) in seen:
                    _refuse(what, f"two arrays are called {shown(name)!r}")
                seen.add(name)  # any name will do: nothing is written under it
                check_zip_member(info)
                left -= info.file_size
                if left < 0:
                    _refuse(what, f"it inflates past {limits.npz_bytes} bytes")
                _check_header(archive, info, what, limits)
            return {_key(info): _array(archive, info) for info in archive.infolist()}
    except BnfoldError:
        raise
    except (OSError, KeyError, *READ_ERRORS, *_HEADER_ERRORS) as error:
        _refuse(what, shown(error) or type(error).__name__)


def _check_header(archive: zipfile.ZipFile, info: zipfile.ZipInfo, what: str, limits: Limits) -> None:
    name = stored_name(info)
    if not name.endswith(".npy"):
        _refuse(what, f"{shown(name)!r} is no array")
    with open_member(archive, info) as file:
        shape, dtype = _header(file)
        begin = file.tell()
    if dtype.hasobject or dtype.names is not None:
        _refuse(what, f"array {shown(_key(info))!r} holds objects or records, not numbers or text")
    if len(shape) > limits.tensor_rank or any(size < 0 for size in shape):
        _refuse(what, f"array {shown(_key(info))!r} has {len(shape)} dimensions, or a negative one")
    declared = math.prod(shape) * dtype.itemsize
    if declared != info.file_size - begin:
        _refuse(
            what, f"array {shown(_key(info))!r} declares {declared} bytes and stores {info.file_size - begin}"
        )


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:  # 3.0 is for records whose fields have foreign names
        raise ValueError(f"format version {version[0]}.{version[1]} is not one of plain arrays")
    shape, _, dtype = readers[version](file)
    return shape, dtype


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with open_member(archive, info) as file:
        found: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        return found


def _key(info: zipfile.ZipInfo) -> str:
    return stored_name(info).removesuffix(".npy")


def _refuse(what: str, why: str) -> NoReturn:
    raise UsageError(f"The {what} data cannot be read as .npz: {why}.", hint=_HINT)
