"""Upgrades: one chain of migrations, a schema that equals the tables, and old rows that go on."""

from __future__ import annotations

import time
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import func, insert, select, text

from service.jobs import leases
from service.jobs.model import State
from service.store import tables
from service.store.db import Database
from service.store.migrate import HEAD, SCRIPTS, migrate, revision, upgrade
from tests.support.in_process import open_services, orders, settings, submit, upload, worker

OLD_COLUMNS = (
    "id tenant kind state pool filename input_digest options cache_key attempt losses crashes not_before "
    "event_seq created_at updated_at"
)


def scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    return ScriptDirectory.from_config(config)


def test_one_chain_that_ends_at_head() -> None:
    found = scripts()
    assert found.get_heads() == [HEAD]
    assert len(list(found.walk_revisions())) == len(list((SCRIPTS / "versions").glob("v*.py")))


def test_migrations_make_the_tables(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/a.db")
    migrate(db, settings(tmp_path))
    with db.read() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, tables.metadata) == []
    db.close()


def test_a_hundred_thousand_rows(tmp_path: Path) -> None:
    """The first schema, filled; the upgrade is a matter of seconds, and the old jobs are taken in order."""
    chosen = settings(tmp_path / "data")
    (tmp_path / "data").mkdir()
    db = Database(chosen.db_url)
    upgrade(db, "0001")
    names = OLD_COLUMNS.split()
    marks = ", ".join(f":{name}" for name in names)
    query = text(f"INSERT INTO jobs ({', '.join(names)}) VALUES ({marks})")
    base: dict[str, object] = {
        "tenant": "default",
        "kind": "fold",
        "pool": "cpu",
        "filename": "m",
        "options": "{}",
    }
    base |= dict.fromkeys(("attempt", "losses", "crashes"), 0)
    base |= {"event_seq": 1, "input_digest": "sha256:" + "0" * 64}
    rows = [
        base | {"id": f"job_{n:08}", "cache_key": str(n), "created_at": float(n), "updated_at": float(n),
                "not_before": float(n), "state": "queued" if n >= 99_990 else "succeeded"}
        for n in range(100_000)
    ]  # fmt: skip
    event = {"seq": 1, "at": 0.0, "type": "state", "data": {}}
    with db.write() as connection:
        connection.execute(query, rows)
        connection.execute(insert(tables.events), [event | {"job_id": row["id"]} for row in rows])
    began = time.monotonic()
    migrate(db, chosen)
    took = time.monotonic() - began
    assert revision(db) == HEAD
    assert took < 60
    with db.read() as connection:
        assert connection.execute(select(func.count()).select_from(tables.jobs)).scalar_one() == 100_000
    assert leases.next_queued(db, ["cpu"], 3) == ["job_00099990", "job_00099991", "job_00099992"]
    db.close()


def test_a_job_of_the_version_before_finishes_under_this_one(tmp_path: Path) -> None:
    """Its row has none of the columns that came later."""
    services = open_services(tmp_path)
    data = orders()
    old = submit(services, data).job
    with services.db.write() as connection:
        connection.execute(text("UPDATE jobs SET position = NULL, cost = NULL"))
        connection.execute(text("UPDATE tenants SET served = NULL"))
    new = submit(services, orders()).job
    assert leases.next_queued(services.db, ["cpu"], 2) == [old.id, new.id]
    assert worker(services).run(old.id)
    assert services.jobs.get("default", old.id).state is State.SUCCEEDED
    assert upload(services, data) == old.input_digest
