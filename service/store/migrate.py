"""Brings the schema up to date at start, one process at a time. `bnfold` never needs a separate step."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from service.files.private_files import private_file
from service.settings import Settings
from service.store.db import Database

HEAD = "0009"
_LOCK = 0x626E666F  # "bnfo", the advisory lock's number
SCRIPTS = Path(__file__).with_name("migrations")


def migrate(db: Database, settings: Settings) -> None:
    """Upgrade to HEAD; a database that is there already costs one query."""
    if revision(db) == HEAD:
        return
    with _alone(db, settings):
        if revision(db) != HEAD:
            upgrade(db, "head")


def revision(db: Database) -> str | None:
    """The schema's revision, None for an empty database."""
    with db.read() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return found


def upgrade(db: Database, target: str) -> None:
    """Run the migrations up to `target` in one transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    with db.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, target)


@contextmanager
def _alone(db: Database, settings: Settings) -> Iterator[Connection | None]:
    if db.sqlite:
        path = settings.data_dir / "migrate.lock"
        private_file(path)
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield None
        return
    with db.engine.connect() as connection, connection.begin():
        connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _LOCK})
        yield connection
