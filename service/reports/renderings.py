"""Hand out forms of stored reports: looked up, else made once however many ask, stored and streamed."""

from __future__ import annotations

import asyncio
import logging
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select

from service.errors import STORAGE_FAILED, StorageFull, Unavailable, Unprocessable
from service.files.private_files import private_folder
from service.reports import VERSION
from service.settings import Settings
from service.store import tables
from service.store.blobs import Blobs, Verifier, fetch, put_file
from service.store.db import Database, now

log = logging.getLogger("bnfold.reports")
R = tables.renderings.c
FAILURE_TTL = 600.0
_LEFTOVER = 3600.0


@dataclass(frozen=True)
class Rendering:
    """One stored form: a blob like any other."""

    digest: str
    size: int


@dataclass
class Renderings:
    """One per API process. `workers` forms are made at a time; whoever else asks waits without a thread."""

    db: Database
    blobs: Blobs
    verifier: Verifier
    settings: Settings
    workers: int = 1
    _pending: dict[tuple[str, str], Future[Rendering]] = field(default_factory=dict)
    _failed: dict[tuple[str, str], tuple[float, str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _pool: ThreadPoolExecutor | None = None

    async def find(self, report: str, form: str) -> Rendering:
        """Return the form of the report with this digest; every waiter gets the one that is made.

        Raises Unprocessable (`report_not_rendered`) when its limits do not suffice, StorageFull, Unavailable.
        """
        return await asyncio.shield(asyncio.wrap_future(self.submit(report, form)))

    def get(self, report: str, form: str) -> Rendering:
        """`find` for a thread."""
        return self.submit(report, form).result()

    def submit(self, report: str, form: str) -> Future[Rendering]:
        """Begin to make the form unless somebody has; the future is shared."""
        key = (report, form)
        with self._lock:
            running = self._pending.get(key)
            if running is not None:
                return running
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="render")
                self._sweep()
            made = self._pool.submit(self._find_or_make, report, form)
            self._pending[key] = made
        made.add_done_callback(lambda _: self._forget(key))
        return made

    def close(self) -> None:
        """End the threads; a form that is being made is finished first, by its limits at the latest."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _forget(self, key: tuple[str, str]) -> None:
        with self._lock:
            self._pending.pop(key, None)

    def _find_or_make(self, report: str, form: str) -> Rendering:
        found = self._stored(report, form)
        if found is not None:
            return found
        at, why = self._failed.get((report, form), (0.0, ""))
        if why and time.monotonic() - at < FAILURE_TTL:
            raise not_rendered(form, why)
        return self._make(report, form)

    def _stored(self, report: str, form: str) -> Rendering | None:
        query = select(R.digest, R.size).where(
            R.report_digest == report, R.form == form, R.version == VERSION
        )
        with self.db.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        try:
            self.verifier.check(row.digest, now())
        except Exception as error:  # noqa: BLE001  lost or rotten: it can be made again
            log.warning("a stored form is made again: %s", type(error).__name__, extra={"form": form})
            return None
        return Rendering(row.digest, row.size)

    def _make(self, report: str, form: str) -> Rendering:
        began = time.monotonic()
        try:
            folder = Path(tempfile.mkdtemp(dir=self._folder()))
        except OSError as error:
            raise _storage(error) from error
        try:
            source, target = folder / "report", folder / form
            fetch(self.blobs, report, source)
            self.make_in_child(report, form, source, target)
            digest, size = put_file(self.blobs, target)
            self._note(report, form, digest, size)
        except OSError as error:
            raise _storage(error) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        took = round(time.monotonic() - began, 3)
        log.info("form made", extra={"form": form, "bytes": size, "seconds": took})
        return Rendering(digest, size)

    def make_in_child(self, report: str, form: str, source: Path, target: Path) -> None:
        memory, seconds = self.settings.report_memory_bytes, self.settings.report_timeout
        command = [
            sys.executable,
            "-s",
            "-P",
            "-m",
            "service.reports.process",
            form,
            str(memory),
            str(int(seconds)),
        ]
        with source.open("rb") as given, target.open("xb") as taken:
            try:
                done = subprocess.run(
                    command,
                    stdin=given,
                    stdout=taken,
                    stderr=subprocess.PIPE,
                    timeout=2 * seconds,
                    check=False,
                )
                why = done.stderr.decode(errors="replace").strip()[-200:] or f"exit {done.returncode}"
                good = done.returncode == 0
            except subprocess.TimeoutExpired:
                good, why = False, "time"
        if not good:
            log.error("form not made", extra={"form": form, "why": why, "bytes": source.stat().st_size})
            if len(self._failed) > 10_000:
                self._failed.clear()
            self._failed[report, form] = (time.monotonic(), why)
            raise not_rendered(form, why)

    def _note(self, report: str, form: str, digest: str, size: int) -> None:
        values = {"digest": digest, "size": size, "version": VERSION, "created_at": now()}
        insert = self.db.insert(tables.renderings).values(report_digest=report, form=form, **values)
        with self.db.write() as connection:
            connection.execute(
                insert.on_conflict_do_update(index_elements=["report_digest", "form"], set_=values)
            )

    def _folder(self) -> Path:
        return private_folder(self.settings.data_dir.absolute() / "rendering")

    def _sweep(self) -> None:
        """Remove what a killed process left behind."""
        try:
            for entry in self._folder().iterdir():
                if time.time() - entry.stat().st_mtime > _LEFTOVER:
                    shutil.rmtree(entry, ignore_errors=True)
        except OSError as error:
            log.warning("leftovers not removed: %s", error.strerror)


def not_rendered(form: str, why: str) -> Unprocessable:
    return Unprocessable(
        f"The {form} form of this report cannot be made ({why.split()[0][:60]}).",
        code="report_not_rendered",
        hint="The JSON form is always there: Accept: application/json.",
    )


def _storage(error: OSError) -> StorageFull | Unavailable:
    if error.errno in STORAGE_FAILED:
        return StorageFull(
            f"The report's form cannot be stored: {error.strerror}.", hint="Free space, then try again."
        )
    return Unavailable(f"The report's form cannot be made now: {error.strerror}.")
