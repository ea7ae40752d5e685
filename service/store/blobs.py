"""Bytes by digest. The port, and what every store does alike.

Write protocol (R2): bytes go to a temporary place while they are hashed; `commit` makes them durable and
then visible under their digest, all or nothing. Only after that may a table speak of them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import obstore
from obstore.store import ObjectStore

from service.errors import CorruptBlob, NotFound

CHUNK = 1 << 20


@dataclass(frozen=True)
class BlobStat:
    """What the store knows of one blob."""

    digest: str
    size: int
    modified: float


class BlobWriter(Protocol):
    """One blob on its way in. Not thread-safe; call `commit` or `abort` exactly once."""

    size: int

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes; raises StorageFull when they cannot be kept."""

    def digest(self) -> str:
        """Digest of what came so far."""

    def commit(self) -> str:
        """Durable and visible from here on; returns the digest."""

    def abort(self) -> None:
        """As if nothing had come."""


class Blobs(Protocol):
    """One implementation per kind of store; all methods may block and are thread-safe."""

    def writer(self) -> BlobWriter:
        """Begin a blob."""

    def stat(self, digest: str) -> BlobStat | None:
        """Size and age, or None where there is none."""

    def path(self, digest: str) -> Path | None:
        """The blob's own file, where the store has files."""

    def read(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[memoryview]:
        """Bytes `start:end` in pieces. Raises NotFound."""

    def delete(self, digest: str) -> None:
        """Forget it; nothing happens where there is none."""

    def walk(self, shard: str = "") -> Iterator[BlobStat]:
        """Every blob, in no order; with `shard`, two hexadecimal digits, those whose digest begins so."""

    def fingerprint(self, digest: str) -> object | None:
        """Something that changes when the stored bytes are replaced; None where there is no blob."""

    def sweep(self, older_than: float) -> int:
        """Remove leftovers of writers that died before that time; how many."""

    def ping(self) -> None:
        """Raise Unavailable or StorageFull unless it can be written to."""


def put_bytes(blobs: Blobs, data: bytes) -> str:
    """Store a small blob."""
    writer = blobs.writer()
    try:
        writer.write(data)
        return writer.commit()
    except BaseException:
        writer.abort()
        raise


def put_file(blobs: Blobs, path: Path) -> tuple[str, int]:
    """Store a file's bytes; digest and size."""
    writer = blobs.writer()
    try:
        with path.open("rb", buffering=0) as source:
            while piece := source.read(CHUNK):
                writer.write(piece)
        return writer.commit(), writer.size
    except BaseException:
        writer.abort()
        raise


def read_all(blobs: Blobs, digest: str) -> bytes:
    """All bytes of a small blob, checked against the digest."""
    data = b"".join(blobs.read(digest))
    if digest_of(data) != digest:
        raise _corrupt(digest)
    return data


def fetch(blobs: Blobs, digest: str, target: Path) -> int:
    """Copy a blob to a new file and check it on the way; bytes written. Raises NotFound, CorruptBlob."""
    hasher, size = hashlib.sha256(), 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb", buffering=0) as out:
        for piece in blobs.read(digest):
            hasher.update(piece)
            write_all(out.fileno(), piece)
            size += len(piece)
    if f"sha256:{hasher.hexdigest()}" != digest:
        target.unlink()
        raise _corrupt(digest)
    return size


class Verifier:
    """Checks digests, and remembers what it checked for as long as the stored bytes stay the same.

    `fingerprint` (inode, size, mtime and ctime of a file; ETag of an object) changes with every write, so a
    flipped byte is seen at the next read. The memory also ends after an hour, for rot below the file system.
    """

    def __init__(self, blobs: Blobs, lifetime: float = 3600.0) -> None:
        self._blobs, self._lifetime = blobs, lifetime
        self._seen: dict[str, tuple[object, float]] = {}

    def check(self, digest: str, clock: float) -> None:
        """Raise NotFound or CorruptBlob unless the bytes are there and are the right ones."""
        mark = self._blobs.fingerprint(digest)
        if mark is None:
            raise NotFound(f"The bytes of {digest} are not in the store.", code="blob_missing")
        known = self._seen.get(digest)
        if known is not None and known[0] == mark and clock - known[1] < self._lifetime:
            return
        hasher = hashlib.sha256()
        for piece in self._blobs.read(digest):
            hasher.update(piece)
        if f"sha256:{hasher.hexdigest()}" != digest:
            self._seen.pop(digest, None)
            raise _corrupt(digest)
        if len(self._seen) > 10_000:
            self._seen.clear()
        self._seen[digest] = (mark, clock)


def digest_of(data: bytes | memoryview) -> str:
    """`sha256:` and the hex."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """`os.write` until nothing is left."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def key_of(digest: str) -> str:
    """Where a blob lies below the root: `sha256/ab/abcd...`."""
    kind, _, value = digest.partition(":")
    return f"{kind}/{value[:2]}/{value}"


def listing(store: ObjectStore, shard: str) -> Iterator[BlobStat]:
    """Yield the blobs below `sha256`, or below one of its folders."""
    for page in obstore.list(store, prefix=f"sha256/{shard}".rstrip("/")):
        for item in page:
            name = str(item["path"]).rsplit("/", 1)[-1]
            yield BlobStat(f"sha256:{name}", int(item["size"]), item["last_modified"].timestamp())


def _corrupt(digest: str) -> CorruptBlob:
    return CorruptBlob(
        f"The stored bytes of {digest} no longer match their digest.",
        hint="Upload the model or run the job again; the damaged copy is never handed out.",
    )
