"""Nobody else on the machine reads the data folder, and webhook secrets are encrypted in it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from service.app import create_app
from service.backup import backup, restore
from service.errors import Unprocessable
from service.files.private_files import private_folder
from service.store import tables
from service.webhooks.secret_box import SecretBox
from service.wiring import Services
from tests.support.in_process import TestClient, open_services, submit, worker

URL = "https://93.184.216.34/hook"


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def exposed(folder: Path) -> list[str]:
    """Everything below the folder, and the folder, that others may touch."""
    places = [folder, *folder.rglob("*")]
    return [str(path) for path in places if path.lstat().st_mode & 0o077]


def filled(folder: Path) -> Services:
    services = open_services(folder)
    worker(services).run(submit(services).job.id)
    with TestClient(create_app(services=services), base_url="http://localhost") as client:
        client.get("/readyz")
    return services


def test_new_folder(tmp_path: Path) -> None:
    filled(tmp_path / "data")
    found = [path for path in exposed(tmp_path / "data") if "scratch" not in path]
    assert found == []


def test_folder_of_an_earlier_version_is_closed(tmp_path: Path) -> None:
    filled(tmp_path / "data").close()
    for path in (tmp_path / "data", *(tmp_path / "data").glob("bnfold.db*")):
        path.chmod(0o755)
    open_services(tmp_path / "data").close()
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (tmp_path / "data").glob("bnfold.db*") if path.stat().st_mode & 0o077] == []


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    shared, sticky = tmp_path / "home", tmp_path / "tmp"
    for folder in (shared, sticky):
        folder.mkdir()
    (shared / "letter.txt").write_text("")
    shared.chmod(0o755)
    sticky.chmod(0o1777)
    private_folder(shared)
    private_folder(sticky)
    assert (shared.stat().st_mode & 0o777, sticky.stat().st_mode & 0o7777) == (0o755, 0o1777)


def test_backup_and_restore(tmp_path: Path) -> None:
    services = filled(tmp_path / "data")
    backup(services, tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_mode & 0o077 == 0
    assert (tmp_path / "copy" / "bnfold.db").stat().st_mode & 0o077 == 0
    restore(tmp_path / "copy", tmp_path / "again")
    open_services(tmp_path / "again").close()
    assert (tmp_path / "again").stat().st_mode & 0o077 == 0


def test_secrets_are_not_in_the_file(tmp_path: Path) -> None:
    services = open_services(tmp_path / "data")
    secret = services.webhooks.create("default", URL, []).secret
    services.close()
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").glob("bnfold.db*"))
    assert secret.startswith("whsec_")
    assert b"whsec_" not in stored
    assert secret[6:].encode() not in stored


def test_secrets_of_an_earlier_version_are_encrypted_at_start(tmp_path: Path) -> None:
    services = open_services(tmp_path / "data")
    made = services.webhooks.create("default", URL, [])
    with services.db.write() as connection:
        connection.execute(update(tables.webhooks).values(secret=made.secret))
    services.close()
    again = open_services(tmp_path / "data")
    with again.db.read() as connection:
        row = connection.execute(select(tables.webhooks)).one()
    assert made.secret not in row.secret
    assert SecretBox(again.keys.pepper).open(row.secret, row.id) == made.secret
    again.close()
    raw = sqlite3.connect(tmp_path / "data" / "bnfold.db")
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()
    assert made.secret[6:].encode() not in (tmp_path / "data" / "bnfold.db").read_bytes()


@pytest.mark.parametrize("stored", ["enc1:", "enc1:???", "enc1:AAAA"])
def test_damaged_or_moved_secrets(stored: str) -> None:
    box = SecretBox(b"pepper")
    with pytest.raises(Unprocessable) as caught:
        box.open(stored, "wh_1")
    assert caught.value.error_code == "webhook_secret_unreadable"
    sealed = box.seal("whsec_x", "wh_1")
    for other, hook in ((SecretBox(b"another"), "wh_1"), (box, "wh_2")):
        with pytest.raises(Unprocessable):
            other.open(sealed, hook)
