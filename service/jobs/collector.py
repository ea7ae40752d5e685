"""Start-up reconciliation and garbage collection. What a release or an unfinished job needs never goes.

Order: old or surplus finished jobs -> models and artifacts that nothing names -> tenants' claims on blobs ->
bytes that no tenant claims. Bytes younger than the grace time stay: their row may be about to be written.
"""

from __future__ import annotations

import itertools
import logging
import math
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, exists, func, or_, select

from service.jobs.model import TERMINAL, Job
from service.jobs.service import remove
from service.settings import Settings
from service.store import tables
from service.store.blobs import Blobs, BlobStat
from service.store.db import Database, now

log = logging.getLogger("bnfold.store")
J, B, M, A = tables.jobs.c, tables.blobs.c, tables.models.c, tables.artifacts.c
H, P = tables.release_history.c, tables.upload_parts.c
U, D = tables.uploads.c, tables.deliveries.c
F = tables.renderings.c
DAY = 86_400.0
# One collection lists about so many blobs: 200 requests of an S3 store. A larger store is listed in parts.
LISTED_AT_ONCE = 200_000
_SHARDS = 256  # by the first two digits of the digest, which is how the store lays them out


@dataclass(frozen=True)
class Part:
    """The blobs whose digest begins with `first` up to, but not with, `end` (of 256)."""

    first: int = 0
    end: int = _SHARDS

    def shards(self) -> list[str]:
        """Return the folders to list: the one above them for the whole."""
        whole = (self.first, self.end) == (0, _SHARDS)
        return [""] if whole else [f"{shard:02x}" for shard in range(self.first, self.end)]

    def holds(self, digest: ColumnElement[str]) -> ColumnElement[bool]:
        """Return the condition on a column of digests."""
        end = "sha256:g" if self.end == _SHARDS else f"sha256:{self.end:02x}"
        return and_(digest >= f"sha256:{self.first:02x}", digest < end)


@dataclass(frozen=True)
class Collector:
    """Run by workers; several at a time do no harm."""

    db: Database
    blobs: Blobs
    settings: Settings
    # Workers begin at different parts of a large store.
    _turns: Iterator[int] = field(default_factory=lambda: itertools.count(secrets.randbelow(_SHARDS)))

    def run(self) -> dict[str, int]:
        """One round; what went, by kind."""
        cutoff = now() - self.settings.retention_days * DAY
        went = {
            "uploads": self._expire_uploads(),
            "jobs": self._all_jobs(J.finished_at < cutoff),
            "models": self._models(cutoff),
            "deliveries": self._old(tables.deliveries, D.created_at < cutoff),
            "usage": self._old(tables.usage, tables.usage.c.day < cutoff / DAY),
            "surplus": self._surplus(),
            "renderings": self._renderings(),
            "claims": self._claims(),
            **self._listed(self._next_part()),
            "leftovers": self.blobs.sweep(now() - max(self.settings.gc_grace, self.settings.body_timeout)),
        }
        if any(went.values()):
            log.info("collected", extra=went)
        return went

    def reconcile(self) -> dict[str, int]:
        """Tables against bytes, at start: rows whose bytes are gone must not be promised to anybody.

        A large store is compared a part at each round instead.
        """
        part = self._next_part()
        return self._compare(part, self._list(part))

    def _next_part(self) -> Part:
        """Return the part of the store whose turn it is: all of it while one collection can list it."""
        with self.db.read() as connection:
            blobs = int(connection.execute(select(func.count()).select_from(tables.blobs)).scalar_one())
        parts = min(_SHARDS, max(1, math.ceil(blobs / LISTED_AT_ONCE)))
        turn = next(self._turns) % parts
        return Part(turn * _SHARDS // parts, (turn + 1) * _SHARDS // parts)

    def _list(self, part: Part) -> list[BlobStat]:
        return [stat for shard in part.shards() for stat in self.blobs.walk(shard)]

    def _listed(self, part: Part) -> dict[str, int]:
        """List a part of the store once; return what went of its rows and of its bytes.

        The rows of a store that is listed as a whole were compared at start.
        """
        listed = self._list(part)
        lost = self._compare(part, listed)["missing"] if part != Part() else 0
        return {"lost": lost, "blobs": self._bytes(listed)}

    def _compare(self, part: Part, listed: list[BlobStat]) -> dict[str, int]:
        """Remove the rows of the part whose bytes are gone; count them and the blobs that are there."""
        with self.db.read() as connection:
            claims = connection.execute(select(B.tenant, B.digest).where(part.holds(B.digest))).all()
        present = {stat.digest for stat in listed}
        missing = 0
        for tenant, digest in claims:
            # Look again: the blob may have come after the listing.
            if digest in present or self.blobs.stat(digest) is not None:
                continue
            missing += 1
            log.error("blob lost", extra={"digest": digest})
            with self.db.write() as connection:
                connection.execute(delete(tables.blobs).where(B.tenant == tenant, B.digest == digest))
        return {"missing": missing, "present": len(present)}

    def _all_jobs(self, which: ColumnElement[bool]) -> int:
        """Lot after lot, each a short transaction: a day may bring a million, and others write in between."""
        went, deadline = 0, time.monotonic() + max(1.0, self.settings.gc_interval / 2)
        while lot := self._jobs(which):
            went += lot
            if time.monotonic() > deadline:
                break  # the rest next time: leases are looked after by the same thread
        return went

    def _jobs(self, which: ColumnElement[bool], limit: int = 200) -> int:
        made = or_(H.digest == J.artifact_digest, H.digest == J.recalibrated_digest)
        released = exists().where(H.tenant == J.tenant, made)
        finished = J.state.in_([state.value for state in TERMINAL])
        query = select(tables.jobs).where(finished, which, ~released).order_by(J.finished_at).limit(limit)
        with self.db.write() as connection:
            self.db.alone(connection, "collect jobs")
            old = [Job.of(row) for row in connection.execute(query)]
            remove(connection, old)
        return len(old)

    def _models(self, cutoff: float) -> int:
        used = exists().where(J.model_id == M.id)
        with self.db.write() as connection:
            return connection.execute(delete(tables.models).where(M.created_at < cutoff, ~used)).rowcount

    def _renderings(self) -> int:
        """Forms of reports that no job names any more."""
        used = exists().where(J.report_digest == F.report_digest)
        with self.db.write() as connection:
            return connection.execute(delete(tables.renderings).where(~used)).rowcount

    def _surplus(self) -> int:
        """Above the cap, the oldest finished jobs go, in small lots, until it holds."""
        cap, went = self.settings.storage_cap_bytes, 0
        while cap and self._stored() > cap:
            lot = self._jobs(J.finished_at.is_not(None), limit=16)
            freed = self._models(now()) + self._claims(grace=self.settings.gc_grace) + lot
            went += lot
            if not freed:
                break
        return went

    def _stored(self) -> int:
        with self.db.read() as connection:
            sizes = select(B.digest, func.max(B.size).label("size")).group_by(B.digest).subquery()
            return int(connection.execute(select(func.coalesce(func.sum(sizes.c.size), 0))).scalar_one())

    def _claims(self, grace: float | None = None) -> int:
        grace = max(self.settings.gc_grace, DAY) if grace is None else grace
        with self.db.write() as connection:
            return connection.execute(
                delete(tables.blobs).where(_unused(), B.last_used_at < now() - grace)
            ).rowcount

    def _bytes(self, listed: list[BlobStat]) -> int:
        cutoff, went = now() - self.settings.gc_grace, 0
        for stat in listed:
            if stat.modified < cutoff and self._unclaimed(stat.digest):
                went += self._drop(stat.digest, cutoff)
        return went

    def _unclaimed(self, digest: str) -> bool:
        with self.db.read() as connection:
            return not _claimed(connection, digest)

    def _drop(self, digest: str, cutoff: float) -> bool:
        """Look again inside a write transaction: nobody can register the digest in between."""
        with self.db.write() as connection:
            stat = self.blobs.stat(digest)
            if stat is None or stat.modified >= cutoff or _claimed(connection, digest):
                return False
            self.blobs.delete(digest)
            return True

    def _expire_uploads(self) -> int:
        with self.db.write() as connection:
            over = select(U.id).where(U.expires_at < now())
            connection.execute(delete(tables.upload_parts).where(P.upload_id.in_(over)))
            return connection.execute(delete(tables.uploads).where(U.expires_at < now())).rowcount

    def _old(self, table: Table, which: ColumnElement[bool]) -> int:
        with self.db.write() as connection:
            return connection.execute(delete(table).where(which)).rowcount


def _claimed(connection: Connection, digest: str) -> bool:
    for column in (B.digest, F.digest):
        if connection.execute(select(column).where(column == digest).limit(1)).first() is not None:
            return True
    return False


def _unused() -> ColumnElement[bool]:
    """No model, job, artifact or release of the tenant names the digest, nor a part of an open upload."""
    jobs = exists().where(
        J.tenant == B.tenant,
        or_(*(column == B.digest for column in (
            J.input_digest, J.calibration_digest, J.probe_digest, J.report_digest, J.artifact_digest,
            J.recalibrated_digest, J.candidate_digest,
        ))),
    )  # fmt: skip
    models = exists().where(M.tenant == B.tenant, M.digest == B.digest)
    artifacts = exists().where(A.tenant == B.tenant, A.digest == B.digest)
    history = exists().where(H.tenant == B.tenant, H.digest == B.digest)
    parts = exists().where(P.tenant == B.tenant, P.digest == B.digest)
    return ~jobs & ~models & ~artifacts & ~history & ~parts
