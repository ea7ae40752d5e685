"""What a disk may hold after the power went: replays a journal of `power_loss.c` up to any record.

A file keeps what was flushed, and any part of what was written since, in sectors; a folder keeps the names
that were in it when it was flushed, and any of the changes since. A name is no part of its file: a rename
whose folder was not flushed may be forgotten, whatever the file systems of the day make of it.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

SECTOR: Final = 512
_HEAD: Final = struct.Struct("<IIIIQqQ")
_START: Final = 4096
CREATE, WRITE, TRUNCATE, SYNC, RENAME, LINK, UNLINK, NOTE = range(1, 9)


class Record(NamedTuple):
    """One change; paths are empty where the change has none."""

    op: int
    folder: bool
    path: str
    other: str
    inode: int
    offset: int
    data: bytes


def read_journal(path: Path) -> list[Record]:
    """Return every record, oldest first."""
    data = path.read_bytes()
    found, at = [], _START
    while at < len(data):
        op, folder, near, far, inode, offset, size = _HEAD.unpack_from(data, at)
        if op == 0:
            break  # the process was killed before it counted this one
        at += _HEAD.size
        parts = []
        for length in (near, far, size):
            parts.append(data[at : at + length])
            at += length
        names = os.fsdecode(parts[0]), os.fsdecode(parts[1])
        found.append(Record(op, bool(folder), *names, inode, offset, parts[2]))
    return found


@dataclass
class File:
    """Bytes as programs see them, as they are on the disk, and what may have got there since."""

    seen: bytearray = field(default_factory=bytearray)
    kept: bytes = b""
    since: list[tuple[int, bytes | None]] = field(default_factory=list)

    def change(self, offset: int, data: bytes | None) -> None:
        """Write at an offset, or with None set the size."""
        _apply(self.seen, offset, data)
        self.since.append((offset, data))

    def flush(self) -> None:
        """Keep what is seen."""
        self.kept, self.since = bytes(self.seen), []

    def after(self, chance: random.Random, share: float) -> bytes:
        """Return what is there after a cut; each unflushed sector has got there with that probability."""
        found = bytearray(self.kept)
        for offset, data in self.since:
            if data is None:
                if chance.random() < share:
                    _apply(found, offset, None)
                continue
            at = 0
            while at < len(data):  # sectors of the disk, not of the write
                end = at + SECTOR - (offset + at) % SECTOR
                if chance.random() < share:
                    _apply(found, offset + at, data[at:end])
                at = end
        return bytes(found)


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    size = offset if data is None else offset + len(data)
    if len(content) < size:
        content.extend(bytes(size - len(content)))
    if data is None:
        del content[size:]
    else:
        content[offset:size] = data


@dataclass
class Folder:
    """Names as programs see them, as they are on the disk, and changes that may have got there since."""

    seen: dict[str, Node] = field(default_factory=dict)
    kept: dict[str, Node] = field(default_factory=dict)
    since: list[tuple[str, Node | None]] = field(default_factory=list)

    def change(self, name: str, node: Node | None) -> None:
        """Let the name mean that; None removes it."""
        self.seen.pop(name, None)
        if node is not None:
            self.seen[name] = node
        self.since.append((name, node))

    def flush(self) -> None:
        """Keep what is seen."""
        self.kept, self.since = dict(self.seen), []

    def after(self, chance: random.Random, share: float) -> dict[str, Node]:
        """Return the names that are there after a cut."""
        found = dict(self.kept)
        for name, node in self.since:
            if chance.random() < share:
                found.pop(name, None)
                if node is not None:
                    found[name] = node
        return found


Node = File | Folder


class Disk:
    """The tree below one folder, which itself is there for good."""

    def __init__(self, root: str) -> None:
        self.root = Folder()
        self._base = PurePosixPath(root)
        self._inodes: dict[int, Node] = {}

    def play(self, record: Record) -> None:
        """Apply one record."""
        if record.op == CREATE:
            node: Node = Folder() if record.folder else File()
            self._inodes[record.inode] = node
            self._name(record.path, node)
        elif record.op in (WRITE, TRUNCATE):
            file = self._inodes[record.inode]
            assert isinstance(file, File)
            file.change(record.offset, record.data if record.op == WRITE else None)
        elif record.op == SYNC:
            self._inodes.get(record.inode, self.root).flush()
        elif record.op in (RENAME, LINK):
            self._name(record.other, self._find(record.path))
            if record.op == RENAME:
                self._name(record.path, None)
        elif record.op == UNLINK:
            self._name(record.path, None)

    def cut(self, target: Path, chance: random.Random, share: float) -> None:
        """Make the tree that is there after a cut in a new folder."""
        target.mkdir()
        _make(target, self.root, chance, share)

    def _find(self, path: str) -> Node:
        node: Node = self.root
        for name in self._parts(path):
            assert isinstance(node, Folder)
            node = node.seen[name]
        return node

    def _name(self, path: str, node: Node | None) -> None:
        *above, name = self._parts(path)
        folder = self._find(str(self._base.joinpath(*above)))
        assert isinstance(folder, Folder)
        folder.change(name, node)

    def _parts(self, path: str) -> tuple[str, ...]:
        return PurePosixPath(os.path.normpath(path)).relative_to(self._base).parts


def _make(target: Path, folder: Folder, chance: random.Random, share: float) -> None:
    for name, node in folder.after(chance, share).items():
        if isinstance(node, Folder):
            (target / name).mkdir(mode=0o700)
            _make(target / name, node, chance, share)
        else:
            (target / name).write_bytes(node.after(chance, share))


def notes(records: list[Record]) -> Iterator[tuple[int, bytes]]:
    """Yield the position and text of each acknowledgement."""
    for index, record in enumerate(records):
        if record.op == NOTE:
            yield index, record.data
