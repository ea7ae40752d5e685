"""Releases: a name and a channel point to an artifact; each move is a version and stays in the history."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from service.auth.principal import Principal
from service.errors import Conflict, Gone, NotFound, PreconditionFailed, PreconditionRequired
from service.store import tables
from service.store.blobs import Verifier
from service.store.db import Database, now

R, H, A = tables.releases.c, tables.release_history.c, tables.artifacts.c
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


def etag_of(version: int, digest: str) -> str:
    """Strong tag of a release's state."""
    return f'"{version}-{digest[7:23]}"'


@dataclass(frozen=True)
class Releases:
    """Use cases of releases."""

    db: Database
    verifier: Verifier

    def put(
        self,
        who: Principal,
        name: str,
        channel: str,
        digest: str,
        *,
        note: str,
        if_match: str | None,
        create: bool,
        accept_unhealthy: bool = False,
    ) -> tuple[Row[Any], bool]:
        """Point the channel to a published artifact; (row, whether it is new).

        An existing channel needs `if_match` (its ETag, or `*`); `create` is If-None-Match: *. The artifact's
        bytes are read and compared with its digest first. Raises: CorruptBlob, Gone when they do not hold;
        Conflict for unhealthy statistics that were not accepted.
        """
        self._check_artifact(who.tenant, digest)
        if not accept_unhealthy:
            self._require_healthy(who.tenant, digest)
        with self.db.write() as connection:
            _require_published(connection, who.tenant, digest)
            self.db.alone(connection, "release", who.tenant, name, channel)
            key = (R.tenant == who.tenant, R.name == name, R.channel == channel)
            current = connection.execute(select(tables.releases).where(*key)).first()
            _check(current, if_match, create)
            version = self._next_version(connection, who.tenant, name, channel)
            values = {"version": version, "digest": digest, "updated_at": now()}
            if current is None:
                full = {"tenant": who.tenant, "name": name, "channel": channel} | values
                row = connection.execute(insert(tables.releases).values(**full).returning(*R)).one()
            else:
                moved = update(tables.releases).where(*key, R.version == current.version).values(**values)
                found = connection.execute(moved.returning(*R)).first()
                if found is None:
                    raise PreconditionFailed("The release was moved by somebody else.")
                row = found
            entry = {"name": name, "channel": channel, "version": version, "digest": digest, "note": note}
            entry |= {"tenant": who.tenant, "actor": who.key_id or "local", "at": now()}
            connection.execute(insert(tables.release_history).values(**entry))
            return row, current is None

    def _require_healthy(self, tenant: str, digest: str) -> None:
        """An exact fold of an untrained model is a correct artifact of a useless model."""
        _, headline = self.origin(tenant, digest)
        if headline is not None and headline.get("state") == "unhealthy":
            raise Conflict(
                f"The statistics of the model are not healthy: {headline.get('title')}.",
                code="unhealthy_artifact",
                hint=f"{headline.get('remedy') or ''} To release it as it is, accept its health.".strip(),
                details={"headline": headline},
            )

    def _check_artifact(self, tenant: str, digest: str) -> None:
        """Read the bytes outside of the transaction: an artifact may have gigabytes."""
        with self.db.read() as connection:
            _require_published(connection, tenant, digest)
        try:
            self.verifier.check(digest, now())
        except NotFound as error:
            raise Gone(
                "The artifact's bytes are lost.", code="artifact_lost", hint="Run its job again."
            ) from error

    def origin(self, tenant: str, digest: str) -> tuple[str | None, dict[str, Any] | None]:
        """The job that made an artifact, and its headline; None where the job was deleted."""
        jobs = tables.jobs.c
        query = (
            select(jobs.id, jobs.headline, jobs.artifact_digest, jobs.recalibrated)
            .join(tables.artifacts, (A.job_id == jobs.id) & (A.tenant == jobs.tenant))
            .where(A.tenant == tenant, A.digest == digest)
        )
        with self.db.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None, None
        first = row.artifact_digest == digest
        return row.id, row.headline if first else (row.recalibrated or {}).get("headline")

    def _next_version(self, connection: Any, tenant: str, name: str, channel: str) -> int:
        query = select(H.version).where(H.tenant == tenant, H.name == name, H.channel == channel)
        return int(connection.execute(query.order_by(H.version.desc()).limit(1)).scalar() or 0) + 1

    def get(self, tenant: str, name: str, channel: str) -> Row[Any]:
        """Where the channel points now."""
        query = select(tables.releases).where(R.tenant == tenant, R.name == name, R.channel == channel)
        with self.db.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise NotFound(f"No release {name}/{channel}.")
        return row

    def all(self, tenant: str) -> list[Row[Any]]:
        """All of the tenant's, by name."""
        query = select(tables.releases).where(R.tenant == tenant).order_by(R.name, R.channel).limit(1000)
        with self.db.read() as connection:
            return list(connection.execute(query))

    def history(self, tenant: str, name: str, channel: str) -> list[Row[Any]]:
        """Newest first."""
        self.get(tenant, name, channel)
        query = select(tables.release_history).where(H.tenant == tenant, H.name == name, H.channel == channel)
        with self.db.read() as connection:
            return list(connection.execute(query.order_by(H.version.desc()).limit(1000)))

    def delete(self, tenant: str, name: str, channel: str, if_match: str | None) -> None:
        """Remove the channel and its history; its artifacts may be collected from then on."""
        key = (R.tenant == tenant, R.name == name, R.channel == channel)
        with self.db.write() as connection:
            self.db.alone(connection, "release", tenant, name, channel)
            row = connection.execute(select(tables.releases).where(*key)).first()
            if row is None:
                raise NotFound(f"No release {name}/{channel}.")
            _check(row, if_match or "*", False)
            for table in (tables.releases, tables.release_history):
                c = table.c
                connection.execute(
                    delete(table).where(c.tenant == tenant, c.name == name, c.channel == channel)
                )


def _require_published(connection: Connection, tenant: str, digest: str) -> None:
    state = connection.execute(select(A.state).where(A.tenant == tenant, A.digest == digest)).scalar()
    if state is None:
        raise NotFound(f"No artifact {digest}.", hint="Release the digest of a succeeded job.")
    if state != "published":
        raise Conflict("Only artifacts with verdict pass can be released.", code="quarantined")


def _check(current: Row[Any] | None, if_match: str | None, create: bool) -> None:
    if current is None:
        if if_match is not None:
            raise PreconditionFailed("If-Match was sent, and there is no such release yet.")
        return
    tag = etag_of(current.version, current.digest)
    if create:
        raise PreconditionFailed("The release exists already.", details={"etag": tag})
    if if_match is None:
        raise PreconditionRequired(
            "The release exists; moving it needs If-Match.", hint=f"If-Match: {tag}", details={"etag": tag}
        )
    if if_match.strip() != "*" and tag not in re.findall(r'"[^"]*"', if_match):
        raise PreconditionFailed("The release has moved since.", hint="Read it again.", details={"etag": tag})
