"""Upgrades: one chain of migrations, a schema that equals the tables, and old rows that go on."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import func, insert, select, text

from service.jobs import leases
from service.jobs.model import State
from service.store import tables
from service.store.db import Database, now
from service.store.migrate import HEAD, SCRIPTS, migrate, revision, upgrade
from tests.support.in_process import open_services, orders, settings, submit, upload, worker
from tests.support.paths import ROOT

FIXTURES = ROOT / "tests" / "fixtures"
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


@pytest.mark.parametrize("version", ["schema_0001", "schema_0006"])
def test_jobs_that_earlier_versions_submitted_finish_under_this_one(tmp_path: Path, version: str) -> None:
    """A database and blobs as the first version, and the last one before these indexes, left them.

    One job waits, one is an inspection, one was running when the old worker ended, one had ended.
    """
    left = json.loads((FIXTURES / "service" / f"{version}.json").read_text())
    known = left["known"]
    with closing(sqlite3.connect(tmp_path / "bnfold.db")) as database:
        database.executescript("\n".join(left["sql"]))
    for name, content in left["blobs"].items():
        path = tmp_path / "blobs" / "sha256" / name[:2] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("latin-1"))
    services = open_services(tmp_path, pepper="fixture-pepper")
    assert revision(services.db) == HEAD
    assert leases.reap(services.db, services.queue, services.settings) == 1
    for job_id in leases.next_queued(services.db, ["cpu"], 8):
        assert worker(services).run(job_id)
    for name in ("queued", "inspection", "running", "finished"):
        job = services.jobs.get("default", known[name])
        assert job.state is State.SUCCEEDED, name
        services.verifier.check(str(job.report_digest), now())
    assert services.keys.check(known["key"]).tenant == "default"
    again = json.dumps({"nonce": "old0", "bytes": 200}).encode()
    assert upload(services, again) == services.jobs.get("default", known["finished"]).input_digest
    services.close()


def test_a_row_without_the_columns_that_came_later_is_run(tmp_path: Path) -> None:
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
