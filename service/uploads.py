"""Resumable uploads (tus 1.0). What a PATCH brings is kept in durable parts; the offset is in the table.

Each part is a blob of its own, so a folder and a bucket behave alike. When the last byte is in, the parts are
read once, in order, into the final blob.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, insert, or_, select, update

from service.errors import Conflict, Gone, NotFound, ServiceError
from service.settings import Settings
from service.store import ids, references, tables
from service.store.blobs import Blobs, BlobWriter
from service.store.db import Database, now
from service.store.tenants import room

U, P = tables.uploads.c, tables.upload_parts.c
PART = 32 << 20
LOCK = 60.0


class ChecksumMismatch(ServiceError):
    """tus checksum extension: the bytes of this PATCH are not the ones that were meant."""

    status = 460
    code = "checksum_mismatch"
    exit_code = 75


@dataclass(frozen=True)
class Uploads:
    """Use cases of uploads."""

    db: Database
    blobs: Blobs
    settings: Settings

    def create(self, tenant: str, length: int | None, attrs: str) -> Row[Any]:
        """An empty upload."""
        clock = now()
        values = {
            "id": ids.new("up"), "tenant": tenant, "length": length, "offset": 0, "attrs": attrs[:4000],
            "lock_until": 0.0, "created_at": clock, "expires_at": clock + self.settings.upload_expiry,
        }  # fmt: skip
        with self.db.write() as connection:
            return connection.execute(insert(tables.uploads).values(**values).returning(*U)).one()

    def get(self, tenant: str, upload_id: str) -> Row[Any]:
        """One of the tenant's; Gone after its time."""
        with self.db.read() as connection:
            row = connection.execute(
                select(tables.uploads).where(U.id == upload_id, U.tenant == tenant)
            ).first()
        if row is None:
            raise NotFound(f"No upload {upload_id[:60]!r}.")
        if row.expires_at < now():
            raise Gone("The upload has expired.", code="upload_expired", hint="Start a new one.")
        return row

    def lock(self, tenant: str, upload_id: str, offset: int) -> tuple[Row[Any], str]:
        """Take the upload for one PATCH at `offset`; Conflict when another runs or the offset is wrong."""
        self.get(tenant, upload_id)
        owner = ids.new("lock")
        with self.db.write() as connection:
            query = update(tables.uploads).where(U.id == upload_id, U.offset == offset, U.lock_until < now())
            row = connection.execute(
                query.values(lock_until=now() + LOCK, lock_owner=owner).returning(*U)
            ).first()
        if row is None:
            current = self.get(tenant, upload_id)
            if current.offset != offset:
                raise Conflict(
                    f"The upload is at {current.offset}, not at {offset}.",
                    code="offset_mismatch",
                    hint="HEAD tells the offset.",
                    headers={"Upload-Offset": str(current.offset)},
                )
            raise Conflict("Another request is writing to this upload.", code="upload_locked", hint="Wait.")
        return row, owner

    def add(self, row: Row[Any], owner: str, offset: int, writer: BlobWriter) -> int:
        """Make a part durable and count it; the new offset. The lock is kept for another while."""
        size, digest = writer.size, writer.commit()
        with self.db.write() as connection:
            mine = update(tables.uploads).where(U.id == row.id, U.lock_owner == owner, U.offset == offset)
            moved = connection.execute(mine.values(offset=offset + size, lock_until=now() + LOCK))
            if not moved.rowcount:
                raise Conflict("The upload was taken over by another request.", code="upload_locked")
            room(self.db, connection, self.settings, row.tenant, digest, size)
            references.add_blob(self.db, connection, row.tenant, digest, size)
            part = {
                "upload_id": row.id,
                "offset": offset,
                "size": size,
                "tenant": row.tenant,
                "digest": digest,
            }
            connection.execute(insert(tables.upload_parts).values(**part))
        return offset + size

    def unlock(self, row: Row[Any], owner: str) -> None:
        """End of a PATCH."""
        with self.db.write() as connection:
            mine = update(tables.uploads).where(U.id == row.id, U.lock_owner == owner)
            connection.execute(mine.values(lock_until=0.0, lock_owner=None))

    def set_length(self, row: Row[Any], length: int) -> None:
        """A deferred length becomes known, once."""
        if length < row.offset:
            raise Conflict(
                f"Upload-Length is {length}, and {row.offset} bytes are here.", code="length_mismatch",
                hint="Offsets only grow: upload again from the start, or give the true length.",
            )  # fmt: skip
        with self.db.write() as connection:
            mine = update(tables.uploads).where(
                U.id == row.id, U.offset <= length, or_(U.length.is_(None), U.length == length)
            )
            if not connection.execute(mine.values(length=length)).rowcount:
                raise Conflict("Upload-Length was given before.", code="length_mismatch")

    def finish(self, row: Row[Any]) -> str:
        """Join the parts into one blob; its digest. Doing it twice changes nothing."""
        with self.db.read() as connection:
            query = select(P.digest).where(P.upload_id == row.id).order_by(P.offset)
            parts = list(connection.execute(query).scalars())
        writer = self.blobs.writer()
        try:
            for digest in parts:
                for piece in self.blobs.read(digest):
                    writer.write(piece)
            size, whole = writer.size, writer.commit()
        except BaseException:
            writer.abort()
            raise
        with self.db.write() as connection:
            references.add_blob(self.db, connection, row.tenant, whole, size)
            connection.execute(update(tables.uploads).where(U.id == row.id).values(digest=whole))
            connection.execute(delete(tables.upload_parts).where(P.upload_id == row.id))
        return whole

    def delete(self, tenant: str, upload_id: str) -> None:
        """Give the upload up; its parts go with the next collection."""
        self.get(tenant, upload_id)
        with self.db.write() as connection:
            connection.execute(delete(tables.upload_parts).where(P.upload_id == upload_id))
            connection.execute(delete(tables.uploads).where(U.id == upload_id))
