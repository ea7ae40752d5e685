"""Upgrades: one chain of migrations, a schema that equals the tables, and old rows that go on."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
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
from service.settings import Settings
from service.store import tables
from service.store.db import Database, now
from service.store.migrate import HEAD, SCRIPTS, migrate, revision, upgrade
from service.wiring import build
from tests.support.in_process import open_services, orders, settings, submit, upload, worker
from tests.support.paths import ROOT
from tests.support.service_fixtures import settings_of

FIXTURES = ROOT / "tests" / "fixtures"
OLD_COLUMNS = (
    "id tenant kind state pool filename input_digest options cache_key attempt losses crashes not_before "
    "event_seq created_at updated_at finished_at"
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


@pytest.fixture(params=["sqlite", "postgresql"])
def first_schema(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Database, Settings]]:
    """An empty database of the first schema."""
    more = {}
    if request.param == "postgresql":
        env = settings_of("procrastinate", request)
        more = {name.removeprefix("BNFOLD_").lower(): value for name, value in env.items()}
    chosen = settings(tmp_path / "data", **more)
    (tmp_path / "data").mkdir()
    db = Database(chosen.db_url)
    upgrade(db, "0001")
    yield db, chosen
    db.close()


def test_a_hundred_thousand_rows(first_schema: tuple[Database, Settings]) -> None:
    """The first schema, filled; the upgrade is a matter of seconds, and the old jobs are taken in order.

    Then the oldest go in lots, with their events.
    """
    db, chosen = first_schema
    _fill(db)
    began = time.monotonic()
    migrate(db, chosen)
    took = time.monotonic() - began
    assert revision(db) == HEAD
    assert took < 60
    with db.read() as connection:
        assert connection.execute(select(func.count()).select_from(tables.jobs)).scalar_one() == ROWS
    first = ["job_00099990", "job_00099991", "job_00099992"]
    assert leases.next_queued(db, ["cpu"], 3) == first
    services = build(chosen)
    began = time.monotonic()
    assert services.collector.run()["jobs"] == OLD_ROWS
    pace = OLD_ROWS / (time.monotonic() - began)
    with db.read() as connection:
        for table in (tables.jobs, tables.events):
            left = connection.execute(select(func.count()).select_from(table)).scalar_one()
            assert left == ROWS - OLD_ROWS
    services.close()
    print(f"{db.engine.dialect.name}: upgraded in {took:.1f} s, {pace:.0f} old jobs removed a second")
    assert pace > 12, "a million jobs a day are 12 a second"


ROWS, OLD_ROWS, QUEUED_ROWS = 100_000, 5_000, 10


def _fill(db: Database) -> None:
    """Add the jobs, all but the last of them ended; old ones have five events, others one."""
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
    base |= {"state": "succeeded", "finished_at": now()}
    rows = [
        base | {"id": f"job_{n:08}", "cache_key": str(n), "created_at": n, "updated_at": n, "not_before": n}
        for n in range(ROWS)
    ]
    for n, row in enumerate(rows[:OLD_ROWS]):
        row["finished_at"] = float(n)
    for row in rows[-QUEUED_ROWS:]:
        row |= {"finished_at": None, "state": "queued"}
    event = {"at": 0.0, "type": "state", "data": {}}
    events = [
        event | {"job_id": row["id"], "seq": seq}
        for index, row in enumerate(rows)
        for seq in range(1, 6 if index < OLD_ROWS else 2)
    ]
    with db.write() as connection:
        connection.execute(query, rows)
        connection.execute(insert(tables.events), events)


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
