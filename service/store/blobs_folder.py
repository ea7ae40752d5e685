"""Blobs in a folder: write, fsync, rename, fsync the folder. Reading and listing go through obstore."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from obstore.exceptions import BaseError
from obstore.store import LocalStore

from service.errors import EXHAUSTED, STORAGE_FAILED, NotFound, StorageFull, Unavailable
from service.files.durable import make_folder, sync_folder
from service.store.blobs import CHUNK, BlobStat, key_of, listing, write_all


class FolderBlobs:
    """`<root>/sha256/ab/<hex>`; half-written ones in `<root>/tmp`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._tmp = root / "tmp"
        for folder in (root, self._tmp, root / "sha256"):
            make_folder(folder, 0o700)
        self._durable: set[Path] = set()  # folders whose own names this process has flushed
        self._store = LocalStore(str(root))

    def writer(self) -> FolderWriter:
        """Begin a blob."""
        with storage_errors():
            return FolderWriter(self.root, self._tmp / secrets.token_hex(12), self._durable)

    def path(self, digest: str) -> Path | None:
        """The blob's file."""
        return self.root / key_of(digest)

    def stat(self, digest: str) -> BlobStat | None:
        """Size and age, or None."""
        try:
            found = os.stat(self.root / key_of(digest))
        except FileNotFoundError:
            return None
        return BlobStat(digest, found.st_size, found.st_mtime)

    def fingerprint(self, digest: str) -> object | None:
        """Inode, size and both times: any write to the file changes one of them."""
        try:
            found = os.stat(self.root / key_of(digest))
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def read(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[memoryview]:
        """Bytes in pieces of CHUNK, straight from the file."""
        with storage_errors():
            try:
                file = (self.root / key_of(digest)).open("rb", buffering=0)
            except FileNotFoundError as error:
                raise NotFound(f"No blob {digest}.", code="blob_missing") from error
            with file:
                file.seek(start)
                left = os.fstat(file.fileno()).st_size - start if end is None else end - start
                while left > 0 and (piece := file.read(min(CHUNK, left))):
                    left -= len(piece)
                    yield memoryview(piece)

    def delete(self, digest: str) -> None:
        """Unlink; durable with the next fsync of the folder, which a lost delete can wait for."""
        (self.root / key_of(digest)).unlink(missing_ok=True)

    def walk(self, shard: str = "") -> Iterator[BlobStat]:
        """Every blob, or those of a shard. Raises: StorageFull, Unavailable."""
        with storage_errors():
            try:
                yield from listing(self._store, shard)
            except BaseError as error:  # obstore gives the number only in its text
                number = re.search(r"\(os error (\d+)\)", str(error))
                if number is None:
                    raise
                raise OSError(int(number[1]), os.strerror(int(number[1]))) from error

    def sweep(self, older_than: float) -> int:
        """Remove temporary files that nobody has written to since."""
        gone = 0
        for entry in os.scandir(self._tmp):
            try:
                if entry.stat().st_mtime < older_than:
                    os.unlink(entry.path)
                    gone += 1
            except FileNotFoundError:
                continue  # its writer was not dead after all, and has finished
        return gone

    def ping(self) -> None:
        """Write and sync one small file."""
        with storage_errors():
            writer = self.writer()
            try:
                writer.write(b"ping")
                os.fsync(writer.fileno())
            finally:
                writer.abort()


class FolderWriter:
    """One temporary file that becomes a blob."""

    def __init__(self, root: Path, temporary: Path, durable: set[Path]) -> None:
        self._root, self._temporary, self._durable = root, temporary, durable
        self._fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._hash = hashlib.sha256()
        self.size = 0

    def fileno(self) -> int:
        """Descriptor of the temporary file."""
        return self._fd

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append and hash."""
        with storage_errors():
            write_all(self._fd, data)
        self._hash.update(data)
        self.size += len(data)

    def digest(self) -> str:
        """Digest of what came so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def commit(self) -> str:
        """fsync the bytes, rename, fsync the folder (and its parent, once in a process).

        A folder that is there may not be durable yet: another thread has just made it, or a process that
        was killed before it flushed the parent.
        """
        digest = self.digest()
        target = self._root / key_of(digest)
        with storage_errors():
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1
            if target.parent not in self._durable:
                make_folder(target.parent, 0o700)
                self._durable.add(target.parent)
            # Also when the blob exists: a fresh file heals a rotten one and keeps the collector away from it.
            os.replace(self._temporary, target)
            sync_folder(target.parent)
        return digest

    def abort(self) -> None:
        """Remove the temporary file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._temporary.unlink(missing_ok=True)


@contextmanager
def storage_errors() -> Iterator[None]:
    """OSErrors of a full or failing disk, in our words."""
    try:
        yield
    except OSError as error:
        if error.errno in STORAGE_FAILED:
            raise StorageFull(
                f"The store cannot write: {os.strerror(error.errno or 0)}.",
                hint="Free space on the data folder's disk; nothing was acknowledged, try again.",
            ) from error
        if error.errno in EXHAUSTED:
            raise Unavailable(f"The store cannot open a file: {os.strerror(error.errno or 0)}.") from error
        raise
