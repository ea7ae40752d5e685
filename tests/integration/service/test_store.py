"""Bytes and rows: write protocol, bit rot, collection, reconciliation, migrations, backup."""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import time
from pathlib import Path

import obstore
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from obstore.exceptions import GenericError
from sqlalchemy import create_engine, select, text, update

from service.auth.principal import LOCAL
from service.backup import backup, restore
from service.errors import CorruptBlob, NotFound, Unavailable
from service.jobs import collector
from service.jobs.model import State
from service.store import ids, migrate, tables
from service.store.blobs import fetch, put_bytes
from service.store.db import Database, now
from service.wiring import Services
from tests.support.in_process import digest_of, open_services, orders, settings, submit, upload, worker


def finished(services: Services, **more: object) -> str:
    job = submit(services).job
    worker(services).run(job.id)
    return job.id


def age(services: Services, seconds: float) -> None:
    """Everything is that much older."""
    with services.db.write() as connection:
        for table, names in (
            (tables.jobs, ("created_at", "finished_at")), (tables.models, ("created_at",)),
            (tables.blobs, ("last_used_at",)),
        ):  # fmt: skip
            connection.execute(update(table).values({name: table.c[name] - seconds for name in names}))
    for stat in services.blobs.walk():
        path = services.blobs.path(stat.digest)
        assert path is not None
        os.utime(path, (stat.modified - seconds,) * 2)


def test_interrupted_writer_leaves_nothing_visible(services: Services) -> None:
    writer = services.blobs.writer()
    writer.write(b"half")
    assert services.blobs.stat(writer.digest()) is None
    assert services.blobs.sweep(now() + 10) == 1
    other = services.blobs.writer()
    other.write(b"half")
    other.abort()
    assert list(services.blobs.walk()) == []


@pytest.mark.parametrize("position", [0, 500, 999])
def test_flipped_byte_is_refused_at_every_reader(services: Services, tmp_path: Path, position: int) -> None:
    job = services.jobs.get("default", finished(services))
    digest = str(job.artifact_digest)
    services.verifier.check(digest, now())  # known to be good, and remembered
    path = services.blobs.path(digest)
    assert path is not None
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)
        file.seek(position)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # a rot that hides
    with pytest.raises(CorruptBlob):
        services.verifier.check(digest, now())
    with pytest.raises(CorruptBlob):
        fetch(services.blobs, digest, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    again = submit(services, b"x")  # other work goes on
    assert again.how == "new"
    repeat = services.jobs.submit(_same(services, job.id))
    assert repeat.how == "new", "a rotten artifact never answers from the cache"


def _same(services: Services, job_id: str):  # type: ignore[no-untyped-def]
    from service.jobs.requests import Submission

    job = services.jobs.get("default", job_id)
    return Submission("default", job.input_digest)


def test_uploading_again_heals_rot(services: Services) -> None:
    digest = put_bytes(services.blobs, b"good bytes")
    path = services.blobs.path(digest)
    assert path is not None
    path.write_bytes(b"bad bytes!")
    put_bytes(services.blobs, b"good bytes")
    services.verifier.check(digest, now())


def test_collection_keeps_what_is_needed(services: Services) -> None:
    released, old = finished(services), finished(services)
    waiting = submit(services).job
    digest = str(services.jobs.get("default", released).artifact_digest)
    services.releases.put(LOCAL, "net", "prod", digest, note="", if_match=None, create=False)
    stray = put_bytes(services.blobs, b"never registered")
    age(services, 60 * 86_400)
    young = finished(services)
    services.collector.run()
    services.collector.run()
    for kept in (released, waiting.id, young):
        services.jobs.get("default", kept)
    with pytest.raises(NotFound):
        services.jobs.get("default", old)
    services.verifier.check(digest, now())
    services.verifier.check(waiting.input_digest, now())
    assert services.blobs.stat(stray) is None


def test_collection_treats_a_recalibrated_artifact_as_the_jobs_own(services: Services) -> None:
    """Kept with its bytes while the job is there or a release names it, gone with the job otherwise."""
    data = upload(services, b"arrays")
    jobs = [submit(services, orders(recalibrated="pass"), calibration_digest=data).job.id for _ in range(2)]
    for job in jobs:
        worker(services).run(job)
    released, old = (str(services.jobs.get("default", job).recalibrated_digest) for job in jobs)
    services.releases.put(LOCAL, "net", "second", released, note="", if_match=None, create=False)
    services.collector.run()
    services.verifier.check(old, now())
    age(services, 60 * 86_400)
    services.collector.run()
    services.collector.run()
    services.verifier.check(released, now())
    assert services.blobs.stat(old) is None
    with pytest.raises(NotFound):
        services.jobs.get("default", jobs[1])


def test_young_unregistered_bytes_stay(services: Services) -> None:
    fresh = put_bytes(services.blobs, b"its row is about to come")
    services.collector.run()
    assert services.blobs.stat(fresh) is not None


def test_cap_drops_the_oldest_first(tmp_path: Path) -> None:
    services = open_services(tmp_path, storage_cap_bytes=60_000, gc_grace=0.0)
    made = []
    for _ in range(40):
        job = submit(services, b'{"bytes": 4000, "n": "%s"}' % secrets.token_hex(4).encode()).job
        worker(services).run(job.id)
        made.append(job.id)
    with services.db.write() as connection:
        connection.execute(update(tables.blobs).values(last_used_at=now() - 10))
    services.collector.run()
    with services.db.read() as connection:
        left = set(connection.execute(select(tables.jobs.c.id)).scalars())
    assert 0 < len(left) < 40
    assert left == set(made[-len(left) :])


def test_reconcile_stops_promising_lost_bytes(services: Services) -> None:
    digest = upload(services, b"will be lost")
    services.blobs.delete(digest)
    assert services.collector.reconcile()["missing"] == 1
    with services.db.read() as connection:
        assert connection.execute(select(tables.blobs)).first() is None


def test_a_large_store_is_listed_in_parts(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part has its turn: bytes that nobody claims go, and rows whose bytes are gone."""
    monkeypatch.setattr(collector, "LISTED_AT_ONCE", 10)
    held = [upload(services, f"kept {index}".encode()) for index in range(40)]
    lost, loose = upload(services, b"will be lost"), put_bytes(services.blobs, b"of nobody")
    services.blobs.delete(lost)
    age(services, 2 * services.settings.gc_grace)
    listed: list[str] = []
    walk = services.blobs.walk
    monkeypatch.setattr(services.blobs, "walk", lambda shard="": listed.append(shard) or walk(shard))
    for _ in range(10):
        services.collector.run()
    assert {*listed} == {f"{shard:02x}" for shard in range(256)}
    assert services.blobs.stat(loose) is None
    assert all(services.blobs.stat(digest) for digest in held)
    with services.db.read() as connection:
        assert {*connection.execute(select(tables.blobs.c.digest)).scalars()} == {*held}


def test_a_folder_that_cannot_be_listed_is_a_fault_of_the_machine(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **more: object) -> object:
        raise GenericError("Unable to walk dir: IO error: Too many open files (os error 24)")

    monkeypatch.setattr(obstore, "list", full)
    with pytest.raises(Unavailable):
        services.collector.reconcile()


def test_migrations_build_the_schema(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/x.db")
    migrate.upgrade(db, "0001")
    migrate.migrate(db, settings(tmp_path))
    with db.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []
    assert migrate.revision(db) == migrate.HEAD
    db.close()


def test_migrated_database_keeps_its_rows(tmp_path: Path) -> None:
    """From the first released schema on: a row written there is there after the upgrade to HEAD."""
    db = Database(f"sqlite:///{tmp_path}/bnfold.db")
    migrate.upgrade(db, "0001")
    with db.write() as connection:
        connection.execute(
            text("INSERT INTO tenants (id, created_at, quotas) VALUES ('t', 1.0, '{\"queued\": 3}')")
        )
    db.close()
    services = open_services(tmp_path)
    with services.db.read() as connection:
        assert connection.execute(select(tables.tenants.c.quotas)).scalar() == {"queued": 3}
    services.close()


def test_synchronous_full(services: Services) -> None:
    with services.db.read() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2


def test_backup_while_running_and_restore(services: Services, tmp_path: Path) -> None:
    job = services.jobs.get("default", finished(services))
    target = tmp_path / "backup"
    backup(services, target)
    later = finished(services)
    restored = tmp_path / "restored"
    restore(target, restored)
    other = open_services(restored)
    assert other.collector.reconcile()["missing"] == 0
    assert other.jobs.get("default", job.id).state is State.SUCCEEDED
    other.verifier.check(str(job.artifact_digest), now())
    with pytest.raises(NotFound):
        other.jobs.get("default", later)
    with pytest.raises(FileExistsError):
        restore(target, restored)
    other.close()


def test_backup_is_consistent_alone(services: Services, tmp_path: Path) -> None:
    finished(services)
    backup(services, tmp_path / "b")
    found = sqlite3.connect(tmp_path / "b" / "bnfold.db").execute("PRAGMA integrity_check").fetchone()
    assert found == ("ok",)
    shutil.rmtree(tmp_path / "b")


def test_ids_sort_by_time() -> None:
    made = []
    for _ in range(5):
        made.append(ids.new("job"))
        time.sleep(0.002)
    assert made == sorted(made)
    assert len(made[0]) == len("job_") + 26


def test_page_tokens_are_ours_alone() -> None:
    token = ids.page_token(b"pepper", 12.5, "job_x")
    assert ids.read_page_token(b"pepper", token) == (12.5, "job_x")
    assert ids.read_page_token(b"other", token) is None
    for broken in ("", "a", "ä", token[:-2], token + "AAAA", "=" * 9):
        assert ids.read_page_token(b"pepper", broken) is None


def test_every_engine_url_form_is_understood() -> None:
    assert create_engine("sqlite://")
    assert digest_of(b"").startswith("sha256:e3b0")
