"""API keys `bnf_<id>.<secret>`: 256 random bits, shown once, kept as HMAC-SHA256 under a server pepper."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, insert, or_, select, update

from service.auth.principal import SCOPES, Principal
from service.errors import Conflict, NotFound, Unauthorized, Unprocessable
from service.files.durable import sync_folder
from service.files.private_files import private_folder
from service.settings import Settings
from service.store import ids, tables
from service.store.db import Database, now

K = tables.api_keys.c
_FORM = re.compile(r"bnf_([0-9a-z]{20})\.([A-Za-z0-9_-]{43})")
TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True)
class KeyInfo:
    """A key as it may be listed: everything but the secret."""

    id: str
    tenant: str
    name: str
    scopes: list[str]
    created_at: float
    expires_at: float | None
    revoked_at: float | None


@dataclass(frozen=True)
class Keys:
    """Create, check, rotate and revoke."""

    db: Database
    pepper: bytes

    def create(
        self,
        tenant: str,
        name: str,
        scopes: list[str],
        expires_at: float | None = None,
        replaces: str | None = None,
    ) -> tuple[KeyInfo, str]:
        """A new key and its only showing."""
        if not TENANT.fullmatch(tenant):
            raise Unprocessable(f"{tenant!r} is no tenant name.", hint="a-z, 0-9, - and _, up to 63.")
        unknown = sorted(set(scopes) - set(SCOPES))
        if unknown or not scopes:
            raise Unprocessable(f"Unknown scopes {unknown}.", hint=f"Known: {', '.join(SCOPES)}.")
        key_id = "".join(secrets.choice("0123456789abcdefghjkmnpqrstvwxyz") for _ in range(20))
        secret = secrets.token_urlsafe(32)
        values = {
            "id": key_id, "tenant": tenant, "name": name[:200], "mac": self._mac(secret), "scopes": scopes,
            "created_at": now(), "expires_at": expires_at, "replaces": replaces,
        }  # fmt: skip
        with self.db.write() as connection:
            quiet = self.db.insert(tables.tenants).values(id=tenant, created_at=now(), quotas={})
            connection.execute(quiet.on_conflict_do_nothing())
            row = connection.execute(insert(tables.api_keys).values(**values).returning(*K)).one()
        return _info(row), f"bnf_{key_id}.{secret}"

    def check(self, presented: str) -> Principal:
        """Who this is. One error for every way of being wrong but age, so that nothing can be probed."""
        match = _FORM.fullmatch(presented)
        row = None
        if match is not None:
            with self.db.read() as connection:
                row = connection.execute(select(tables.api_keys).where(K.id == match[1])).first()
        # Compare in any case: an unknown id takes as long as a wrong secret.
        good = hmac.compare_digest(self._mac(match[2] if match else ""), row.mac if row else "0" * 64)
        if row is None or not good:
            raise _refused("The API key is not known.")
        if row.revoked_at is not None:
            raise _refused("The API key was revoked.", "key_revoked")
        if row.expires_at is not None and row.expires_at <= now():
            raise _refused("The API key has expired.", "key_expired")
        return Principal(row.tenant, frozenset(row.scopes), row.id)

    def any_usable(self) -> bool:
        """Return True while at least one key is neither revoked nor expired."""
        with self.db.read() as connection:
            return connection.execute(select(K.id).where(*_usable()).limit(1)).first() is not None

    def ever_created(self) -> bool:
        """Return True once a key was created, also after all keys were revoked or have expired.

        From then on anonymous callers are refused; only `forget_all` opens the service to them again.
        """
        with self.db.read() as connection:
            return connection.execute(select(K.id).limit(1)).first() is not None

    def forget_all(self) -> int:
        """Delete every key, so that local callers need none again; return how many were deleted.

        Raises Conflict while a key is still usable: revoke it first.
        """
        with self.db.write() as connection:
            self.db.alone(connection, "keys")
            if connection.execute(select(K.id).where(*_usable()).limit(1)).first() is not None:
                raise Conflict(
                    "At least one key is still usable.", code="keys_in_use",
                    hint="`bnfold keys list` shows it; `bnfold keys revoke ID` ends it.",
                )  # fmt: skip
            return connection.execute(delete(tables.api_keys)).rowcount

    def revoke(self, key_id: str) -> KeyInfo:
        """End a key now."""
        return self._update(key_id, revoked_at=now())

    def revoke_of(self, tenant: str, key_id: str) -> KeyInfo:
        """End a key of this tenant now. Raises NotFound for another tenant's, too."""
        if all(key.id != f"bnf_{_bare(key_id)}" for key in self.list(tenant)):
            raise NotFound(f"No key {key_id[:60]!r}.")
        return self.revoke(key_id)

    def rotate(self, key_id: str, overlap: float = 86_400.0) -> tuple[KeyInfo, str]:
        """A successor with the same rights; the old key works for `overlap` seconds more."""
        with self.db.read() as connection:
            row = connection.execute(select(tables.api_keys).where(K.id == _bare(key_id))).first()
        if row is None or row.revoked_at is not None:
            raise NotFound(f"No live key {key_id!r}.")
        lifetime = row.expires_at - row.created_at if row.expires_at is not None else None
        made = self.create(
            row.tenant, row.name, list(row.scopes), now() + lifetime if lifetime else None, replaces=row.id
        )
        until = now() + overlap
        self._update(row.id, expires_at=min(until, row.expires_at) if row.expires_at is not None else until)
        return made

    def _update(self, key_id: str, **values: Any) -> KeyInfo:
        with self.db.write() as connection:
            query = update(tables.api_keys).where(K.id == _bare(key_id)).values(**values).returning(*K)
            row = connection.execute(query).first()
        if row is None:
            raise NotFound(f"No key {key_id!r}.")
        return _info(row)

    def list(self, tenant: str | None = None) -> list[KeyInfo]:
        """Oldest first."""
        query = select(tables.api_keys).order_by(K.created_at)
        if tenant is not None:
            query = query.where(K.tenant == tenant)
        with self.db.read() as connection:
            return [_info(row) for row in connection.execute(query)]

    def _mac(self, secret: str) -> str:
        return hmac.new(self.pepper, secret.encode(), hashlib.sha256).hexdigest()


def load_pepper(settings: Settings) -> bytes:
    """The configured pepper, or the one in the data folder, made at first use."""
    given = settings.pepper.get_secret_value()
    if given:
        return given.encode()
    path = settings.data_dir.absolute() / "pepper"
    private_folder(path.parent)
    if not path.exists():
        temporary = path.with_name(ids.new("pepper"))
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(secrets.token_hex(32).encode())
            out.flush()
            os.fsync(out.fileno())
        try:
            os.link(temporary, path)  # the first of several processes wins
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
        sync_folder(path.parent)  # without the pepper, keys that were acknowledged are worth nothing
    return path.read_bytes()


def _usable() -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return K.revoked_at.is_(None), or_(K.expires_at.is_(None), K.expires_at > now())


def _bare(key_id: str) -> str:
    return key_id.removeprefix("bnf_").split(".")[0]


def _refused(message: str, code: str = "unauthorized") -> Unauthorized:
    return Unauthorized(
        message,
        code=code,
        hint="Send `Authorization: Bearer bnf_<id>.<secret>`; `bnfold keys create` makes one.",
        headers={"WWW-Authenticate": 'Bearer realm="bnfold"'},
    )


def _info(row: Row[Any]) -> KeyInfo:
    return KeyInfo(f"bnf_{row.id}", row.tenant, row.name, list(row.scopes), row.created_at, row.expires_at,
                   row.revoked_at)  # fmt: skip
