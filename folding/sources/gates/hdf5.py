"""HDF5 files: structure first, data never. Links, foreign storage and foreign filters are refused.

The walk uses `getlink=True` and object headers only; no dataset is read. What datasets declare is compared
with what the file can hold, since readers allocate the declared size.
"""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from folding.sources.gates.keras_config import check_keras_config, load_json
from folding.sources.gates.limits import LIMITS, Limits, corrupt, refuse, shown

_FILTERS: Final = {1: "deflate", 2: "shuffle", 3: "fletcher32", 4: "szip", 32000: "lzf"}
_HEAP: Final = b"GCOL\x01\0\0\0"
_TEXTS: Final = 2_000_000  # ten for each object that a file may have
_PIECE: Final = 1 << 22
_SAVE_AGAIN: Final = "Load the model with your own Keras and save it again to a new file."


def check_h5(path: Path, limits: Limits = LIMITS) -> None:
    """Check an `.h5` file, its Keras configuration included. Raises UnsafeModel, CorruptModel."""
    with path.open("rb") as file:
        check_stream(file, path.stat().st_size, limits, name=path.name)


def check_stream(
    file: BinaryIO | io.RawIOBase, size: int, limits: Limits = LIMITS, *, name: str = ""
) -> None:
    """The same for an open file of `size` bytes (a member of an archive)."""
    import h5py

    _check_heaps(file, size)
    try:
        with h5py.File(file, "r") as root:
            walk = _Walk(size, limits)
            walk.run(root)
            _check_configuration(root, limits)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as error:
        corrupt(f"{shown(name)!r} is not a complete HDF5 file: {shown(error)}.", name=name)


def _check_heaps(file: BinaryIO | io.RawIOBase, size: int) -> None:
    """Texts of variable length lie in global heaps; over one that has no size, HDF5 itself loops for ever.

    A heap: "GCOL", version 1, 3 zeros, its size (8 bytes); then objects of (index, references, 4 zeros, size)
    and content padded to 8 bytes. Index 0 is free space, whose size counts its header.
    """
    left, begin, tail = _TEXTS, 0, b""
    file.seek(0)
    while piece := file.read(_PIECE):
        held = tail + piece
        at = held.find(_HEAP)
        while at >= 0:
            left -= _check_heap(file, begin + at, size, left)
            at = held.find(_HEAP, at + 1)
        tail = held[1 - len(_HEAP) :]
        begin += len(held) - len(tail)
        file.seek(begin + len(tail))
    file.seek(0)


def _check_heap(file: BinaryIO | io.RawIOBase, begin: int, size: int, most: int) -> int:
    """How many texts the heap at `begin` has, of a file of `size` bytes."""
    file.seek(begin + 8)
    end = begin + int.from_bytes(file.read(8) or b"", "little")
    at, seen = begin + 16, set[int]()
    if not at <= end <= size:
        corrupt(f"The texts of the HDF5 file (at byte {begin}) end outside of it.", hint=_SAVE_AGAIN)
    while at + 16 <= end:
        file.seek(at)
        index, _, _, taken = struct.unpack("<HHIQ", file.read(16) or b"")
        step = taken if index == 0 else 16 + -(-taken // 8) * 8
        # Free space is what is left, in one piece.
        if index in seen or at + step > end or (index == 0 and at + step != end):
            corrupt(f"The texts of the HDF5 file (at byte {at}) have no sizes that add up.", hint=_SAVE_AGAIN)
        seen.add(index)
        at += step
        if len(seen) > most:
            refuse(
                "unsafe_hdf5_objects", f"The file has more than {_TEXTS} texts of variable length.",
                limit=_TEXTS, hint=_SAVE_AGAIN,
            )  # fmt: skip
    return len(seen)


class _Walk:
    def __init__(self, size: int, limits: Limits) -> None:
        self.limits = limits
        self.allowed = min(limits.hdf5_bytes, limits.hdf5_ratio * size)
        self.declared = 0
        self.attributes = 0
        self.objects = 0
        self.seen: set[Any] = set()

    def run(self, root: Any) -> None:
        """Visit every object once, however many names it has."""
        pending: list[tuple[str, Any, int]] = [("/", root, 0)]
        while pending:
            path, item, depth = pending.pop()
            self._count(path, item, depth)
            if not hasattr(item, "keys"):
                self._dataset(path, item)
                continue
            for name, child in self._children(path, item):
                pending.append((f"{path.rstrip('/')}/{name}", child, depth + 1))

    def _count(self, path: str, item: Any, depth: int) -> None:
        self.objects += 1
        if depth > self.limits.hdf5_depth:
            refuse(
                "unsafe_hdf5_depth", f"Group {shown(path)!r} nests {depth} deep.", name=path,
                limit=self.limits.hdf5_depth, hint=_SAVE_AGAIN,
            )  # fmt: skip
        if self.objects > self.limits.hdf5_objects:
            refuse(
                "unsafe_hdf5_objects", f"The file has more than {self.limits.hdf5_objects} objects.",
                name=path, limit=self.limits.hdf5_objects, hint=_SAVE_AGAIN,
            )  # fmt: skip
        for name in item.attrs:
            attribute = item.attrs.get_id(name)
            _check_type(name, attribute.get_type())
            self.attributes += math.prod(attribute.shape or (1,)) * attribute.dtype.itemsize
            if self.attributes > self.limits.hdf5_attribute_bytes:
                refuse(
                    "unsafe_hdf5_size", f"The attributes up to {shown(name)!r} take {self.attributes} bytes.",
                    name=name, limit=self.limits.hdf5_attribute_bytes, hint=_SAVE_AGAIN,
                )  # fmt: skip

    def _children(self, path: str, group: Any) -> Iterator[tuple[str, Any]]:
        import h5py

        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                target = getattr(link, "filename", "") or getattr(link, "path", "")
                refuse(
                    "unsafe_hdf5_link",
                    f"{shown(f'{path}/{name}')!r} is a link to {shown(target)!r}; only data of the file "
                    "itself is read.",
                    name=name, hint=_SAVE_AGAIN,
                )  # fmt: skip
            child = group[name]
            key = h5py.h5o.get_info(child.id).addr
            if key not in self.seen:
                self.seen.add(key)
                yield name, child

    def _dataset(self, path: str, item: Any) -> None:
        if not hasattr(item, "shape"):
            return  # a named type
        plist = item.id.get_create_plist()
        if item.is_virtual or plist.get_external_count() > 0:
            refuse(
                "unsafe_hdf5_storage", f"Dataset {shown(path)!r} keeps its data in another file.", name=path,
                hint=_SAVE_AGAIN,
            )  # fmt: skip
        for index in range(plist.get_nfilters()):
            code = plist.get_filter(index)[0]
            if code not in _FILTERS:
                refuse(
                    "unsafe_hdf5_filter", f"Dataset {shown(path)!r} needs the filter plug-in {code}.",
                    name=path, hint="Save without compression or with gzip.",
                )  # fmt: skip
        _check_type(path, item.id.get_type())
        self.declared += math.prod(item.shape or ()) * item.dtype.itemsize
        if self.declared > self.allowed:
            refuse(
                "unsafe_hdf5_size",
                f"The datasets up to {shown(path)!r} declare {self.declared} bytes; the file can hold "
                f"{self.allowed}.",
                name=path, limit=self.allowed, hint=_SAVE_AGAIN,
            )  # fmt: skip


def _check_type(name: str, held: Any) -> None:
    """Numbers and text, no sequences of variable length and no references: of a damaged one HDF5 dies."""
    import h5py

    if any(held.detect_class(kind) for kind in (h5py.h5t.VLEN, h5py.h5t.REFERENCE)):
        corrupt(
            f"{shown(name)!r} holds sequences or references, which no model does.",
            name=name,
            hint=_SAVE_AGAIN,
        )


def _check_configuration(root: Any, limits: Limits) -> None:
    if "model_config" not in root.attrs:
        return
    text = root.attrs["model_config"]
    if isinstance(text, str):
        text = text.encode()
    if not isinstance(text, bytes):
        corrupt("The model's configuration is no text.", name="model_config")
    try:
        config = load_json(text, "model_config", limits)
    except json.JSONDecodeError as error:
        corrupt(f"The model's configuration is no JSON: {error}.", name="model_config")
    check_keras_config(config, limits, archive=False)
