"""Blobs in an S3-compatible bucket, through obstore.

The digest is known only at the end, so bytes go to `tmp/<random>` as one multipart upload (invisible until it
is completed) and are then copied inside the store to their key. Small ones are put directly.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from service.errors import NotFound, Unavailable
from service.settings import Settings
from service.store.blobs import CHUNK, BlobStat, key_of, listing

SMALL = 8 << 20
COPY_LIMIT = 5 << 30  # S3 copies no more in one request


class S3Blobs:
    """`s3://bucket/prefix/sha256/ab/<hex>`."""

    def __init__(self, settings: Settings) -> None:
        bucket, _, prefix = settings.blob_url.removeprefix("s3://").partition("/")
        config: dict[str, Any] = {"region": settings.s3_region}
        if settings.s3_endpoint:
            config |= {"endpoint": settings.s3_endpoint, "virtual_hosted_style_request": False}
        if settings.s3_access_key_id:
            config["access_key_id"] = settings.s3_access_key_id
            config["secret_access_key"] = settings.s3_secret_access_key.get_secret_value()
        plain = settings.s3_endpoint.startswith("http://")
        self._store = S3Store(
            bucket, prefix=prefix.strip("/") or None, client_options={"allow_http": plain}, **config
        )

    def writer(self) -> S3Writer:
        """Begin a blob."""
        return S3Writer(self._store)

    def path(self, digest: str) -> Path | None:
        """There are no files."""
        return None

    def stat(self, digest: str) -> BlobStat | None:
        """Size and age, or None."""
        meta = self._head(digest)
        return BlobStat(digest, int(meta["size"]), meta["last_modified"].timestamp()) if meta else None

    def fingerprint(self, digest: str) -> object | None:
        """ETag and time of the last write."""
        meta = self._head(digest)
        return (meta["e_tag"], meta["last_modified"], meta["size"]) if meta else None

    def _head(self, digest: str) -> Any:
        with store_errors():
            try:
                return obstore.head(self._store, key_of(digest))
            except FileNotFoundError:
                return None

    def read(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[memoryview]:
        """Bytes in pieces, as they come from the store."""
        with store_errors():
            try:
                options: Any = {}
                if end is not None:
                    options["range"] = (start, end)
                elif start:
                    options["range"] = {"offset": start}
                result = obstore.get(self._store, key_of(digest), options=options)
            except FileNotFoundError as error:
                raise NotFound(f"No blob {digest}.", code="blob_missing") from error
            for piece in result.stream(min_chunk_size=CHUNK):
                yield memoryview(piece)

    def delete(self, digest: str) -> None:
        """Forget it."""
        with store_errors():
            try:
                obstore.delete(self._store, key_of(digest))
            except FileNotFoundError:
                return

    def walk(self, shard: str = "") -> Iterator[BlobStat]:
        """Every blob, or those of a shard."""
        with store_errors():
            yield from listing(self._store, shard)

    def sweep(self, older_than: float) -> int:
        """Remove `tmp/` objects that were completed but never copied."""
        with store_errors():
            stale = [
                str(item["path"])
                for page in obstore.list(self._store, prefix="tmp")
                for item in page
                if item["last_modified"].timestamp() < older_than
            ]
            if stale:
                obstore.delete(self._store, stale)
            return len(stale)

    def ping(self) -> None:
        """One small put and delete."""
        key = f"tmp/ping-{secrets.token_hex(8)}"
        with store_errors():
            obstore.put(self._store, key, b"ping")
            obstore.delete(self._store, key)


class S3Writer:
    """Buffers up to SMALL bytes, then streams parts."""

    def __init__(self, store: S3Store) -> None:
        self._store = store
        self._key = f"tmp/{secrets.token_hex(12)}"
        self._buffer = bytearray()
        self._out: Any = None
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Hash and pass on."""
        self._hash.update(data)
        self.size += len(data)
        with store_errors():
            if self._out is None:
                self._buffer += data
                if len(self._buffer) > SMALL:
                    self._out = obstore.open_writer(
                        self._store, self._key, buffer_size=SMALL, max_concurrency=4
                    )
                    self._out.write(bytes(self._buffer))
                    self._buffer.clear()
            else:
                self._out.write(bytes(data))

    def digest(self) -> str:
        """Digest of what came so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def commit(self) -> str:
        """Complete the upload, copy to the final key, drop the temporary one."""
        digest = self.digest()
        with store_errors():
            if self._out is None:
                obstore.put(self._store, key_of(digest), bytes(self._buffer))
                return digest
            self._out.close()
            self._out = None
            if self.size <= COPY_LIMIT:
                obstore.copy(self._store, self._key, key_of(digest), overwrite=True)
            else:
                self._copy_through(key_of(digest))
            obstore.delete(self._store, self._key)
        return digest

    def _copy_through(self, key: str) -> None:
        out: Any = obstore.open_writer(self._store, key, buffer_size=8 * SMALL)
        for piece in obstore.get(self._store, self._key).stream(min_chunk_size=SMALL):
            out.write(bytes(piece))
        out.close()

    def abort(self) -> None:
        """Drop what was buffered; parts of an unfinished upload never become an object."""
        self._buffer.clear()
        self._out = None


@contextmanager
def store_errors() -> Iterator[None]:
    """Errors of the store, in our words."""
    try:
        yield
    except FileNotFoundError:
        raise
    except BaseError as error:
        raise Unavailable(
            "The object store does not answer as it should.", hint="Try again; `bnfold doctor` tells more."
        ) from error
