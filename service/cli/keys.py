"""`bnfold keys`: API keys of the service on this machine, and the key that signs its statements."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.cli.output import Output

SIGNING_KEY = "provenance.key"  # in the data folder, see service.api.attest

if TYPE_CHECKING:
    from service.auth.keys import KeyInfo, Keys
    from service.settings import Settings


def create(
    name: str,
    scopes: list[str],
    tenant: str,
    expires_days: float | None,
    data_dir: Path | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Make a key and show it, this once. --quiet prints the key alone, for scripts."""
    output = Output(as_json, quiet)
    expires = time.time() + expires_days * 86_400 if expires_days is not None else None
    with _keys(data_dir) as keys:
        info, secret = keys.create(tenant, name, scopes, expires)
    return _shown_once(output, info, secret)


def rotate(key_id: str, overlap_hours: float, data_dir: Path | None, as_json: bool, quiet: bool) -> int:
    """Make a successor with the same rights and show it, this once; the old key works for a while more."""
    output = Output(as_json, quiet)
    with _keys(data_dir) as keys:
        info, secret = keys.rotate(key_id, overlap_hours * 3600)
    return _shown_once(output, info, secret)


def _shown_once(output: Output, info: KeyInfo, secret: str) -> int:
    output.document({**_body(info), "key": secret})
    output.say(f"key:     {secret}")
    output.say(f"id:      {info.id}")
    output.say(f"tenant:  {info.tenant}; scopes: {', '.join(info.scopes)}; expires: {_when(info.expires_at)}")
    output.say("The key is shown this once. Requests send it as `Authorization: Bearer KEY`.")
    if output.quiet and not output.json:
        print(secret)
    return 0


def show(data_dir: Path | None, as_json: bool, quiet: bool) -> int:
    """List the keys, oldest first."""
    output = Output(as_json, quiet)
    with _keys(data_dir) as keys:
        found = keys.list()
    output.document([_body(info) for info in found])
    if not found:
        output.say("no keys; requests from this machine need none until the first is made")
    rows = [[i.id, i.name, i.tenant, " ".join(i.scopes), _when(i.expires_at), _state(i)] for i in found]
    output.table(["id", "name", "tenant", "scopes", "expires", "state"], rows)
    return 0


def revoke(key_id: str, data_dir: Path | None, as_json: bool, quiet: bool) -> int:
    """End a key now."""
    output = Output(as_json, quiet)
    with _keys(data_dir) as keys:
        info = keys.revoke(key_id)
    output.document(_body(info))
    output.say(f"revoked {info.id} ({info.name})")
    return 0


def forget_all(data_dir: Path | None, as_json: bool, quiet: bool) -> int:
    """Delete every key; from then on requests from this machine need none."""
    output = Output(as_json, quiet)
    with _keys(data_dir) as keys:
        count = keys.forget_all()
    output.document({"deleted": count})
    output.say(f"deleted {count} keys; requests from this machine need no key until the next is made")
    return 0


def signing(path: Path | None, as_json: bool, quiet: bool) -> int:
    """The public half of a signing key, as PEM."""
    from service import provenance

    output = Output(as_json, quiet)
    public = provenance.local_key(path).public_key()
    pem = provenance.public_pem(public).decode()
    output.document({"key_id": provenance.key_id(public), "public_key": pem})
    if not as_json:
        print(pem, end="")  # also under --quiet: it is the result
    return 0


def settings(given: dict[str, Any]) -> Settings:
    """Settings from the environment, with what the command line gives on top."""
    from pydantic import ValidationError

    from folding.errors import UsageError
    from service.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        hint = "settings are BNFOLD_* variables, see docs/reference/settings.md"
        raise UsageError(f"setting {name}: {first['msg']}", hint=hint) from None


@contextmanager
def _keys(data_dir: Path | None) -> Iterator[Keys]:
    from service.auth.keys import Keys, load_pepper
    from service.files.private_files import private_folder
    from service.store.db import Database
    from service.store.migrate import migrate

    chosen = settings({"data_dir": data_dir})
    private_folder(chosen.data_dir)
    db = Database(chosen.db_url)
    try:
        migrate(db, chosen)
        yield Keys(db, load_pepper(chosen))
    finally:
        db.close()


def _body(info: KeyInfo) -> dict[str, Any]:
    return asdict(info)


def _when(stamp: float | None) -> str:
    if stamp is None:
        return "never"
    return datetime.datetime.fromtimestamp(stamp, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _state(info: KeyInfo) -> str:
    if info.revoked_at is not None:
        return "revoked"
    if info.expires_at is not None and info.expires_at <= time.time():
        return "expired"
    return "live"
