"""One database handle for SQLite and PostgreSQL: short transactions, and errors in our words."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, text
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DataError, DBAPIError, OperationalError

from service.errors import ServiceError, StorageFull, Unavailable, Unprocessable
from service.files.private_files import close_to_others, private_file

CHANNEL = "bnfold_jobs"
QUEUED, PROGRESS = "+", "~"  # the job has come into the queue; only its progress changed
log = logging.getLogger("bnfold.store")

# What SQLite and PostgreSQL say when the disk is full or failing.
_FULL = (
    "disk is full",
    "disk i/o error",
    "no space left",
    "could not extend file",
    "could not write",
    "readonly",
    "disk image is malformed",  # also what SQLite makes of a read that fails
)


class Database:
    """Connections, transactions and the few places where the two dialects differ."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self.sqlite = parsed.get_backend_name() == "sqlite"
        if self.sqlite:
            _prepare_files(parsed.database or "")
            parsed = parsed.set(drivername="sqlite+pysqlite")
        elif parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        self.url = parsed
        options: dict[str, Any] = {"pool_size": 8, "max_overflow": 56, "pool_timeout": 20}
        if self.sqlite:
            options["connect_args"] = {"timeout": 20, "check_same_thread": False}
        else:
            options |= {"pool_pre_ping": True, "connect_args": {"connect_timeout": 5}}
        self.engine: Engine = create_engine(parsed, **options)
        if self.sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @property
    def dsn(self) -> str:
        """libpq form of the PostgreSQL address, for LISTEN and procrastinate."""
        return self.url.set(drivername="postgresql").render_as_string(hide_password=False)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot for reading."""
        with _translated(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is durable when the block has ended, or has not happened."""
        with _translated(), self.engine.connect() as connection:
            connection.execution_options(bnfold_write=True)
            with connection.begin():
                yield connection

    def insert(self, table: Table) -> Any:
        """An INSERT that knows ON CONFLICT in the dialect at hand."""
        return sqlite_insert(table) if self.sqlite else pg_insert(table)

    def alone(self, connection: Connection, *what: str) -> None:
        """Until this transaction ends, no other one goes past here with the same words.

        SQLite's writers are alone anyway; under PostgreSQL, what is counted or looked for and then inserted
        would otherwise be done twice by two at a time.
        """
        if not self.sqlite:
            words = hashlib.sha256("\0".join(what).encode()).digest()
            number = int.from_bytes(words[:8], "big", signed=True)
            connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": number})

    def touch(self, connection: Connection, job_id: str, mark: str = "") -> None:
        """Tell listeners that a job changed, when and if this transaction commits.

        Args:
            mark: QUEUED or PROGRESS before the id, so that only those look whom it concerns.
        """
        if not self.sqlite:
            connection.execute(text("SELECT pg_notify(:c, :p)"), {"c": CHANNEL, "p": mark + job_id})

    def ping(self) -> None:
        """Raise `Unavailable` unless the database answers."""
        with self.read() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def _prepare_files(database: str) -> None:
    """Create the database file closed to other users; SQLite gives its WAL the same mode."""
    if database in ("", ":memory:"):
        return
    path = Path(database)
    path.parent.mkdir(parents=True, exist_ok=True)
    private_file(path)
    for suffix in ("-wal", "-shm"):
        close_to_others(path.with_name(path.name + suffix))


def now() -> float:
    """Wall-clock seconds; one function, so that tests may move it."""
    return time.time()


def _prepare_sqlite(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves
    cursor = connection.cursor()
    # synchronous=FULL: an acknowledged commit survives power loss (WAL with NORMAL does not).
    for pragma in ("busy_timeout=20000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # IMMEDIATE takes the write lock at once: no upgrade from a stale snapshot, so no SQLITE_BUSY half-way.
    write = connection.get_execution_options().get("bnfold_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except ServiceError:
        raise
    except DBAPIError as error:
        said = str(error.orig).lower()
        if any(words in said for words in _FULL):
            raise StorageFull("The database cannot write: the disk is full or failing.",
                              hint="Free space; nothing was lost, try again.") from error  # fmt: skip
        if isinstance(error, DataError):  # text with NUL, a number out of range: the request's doing
            raise Unprocessable("A value in the request cannot be stored.", code="invalid") from error
        if isinstance(error, OperationalError):
            log.warning("database: %s", str(error.orig)[:300])
            raise Unavailable("The database does not answer.", hint="Try again in a moment.") from error
        raise
    except TimeoutError as error:
        raise Unavailable("Too many requests are waiting for the database.") from error
