"""R2: the power goes at any moment; what was acknowledged is there, and nothing is there in part.

SQLite and the folder store. `power_loss.c` writes every change and every flush down, `power_disk.py` makes
from that what a disk may hold after a cut. A process that died by itself before (its unflushed changes are
seen by the next one, and yet not on the disk) is part of each run. `make powerloss` makes 200 cuts.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from service.jobs.model import State
from service.settings import Settings
from service.store.db import now
from service.wiring import Services, build
from tests.process.faults import power_disk
from tests.process.faults.power_disk import Disk, Record, read_journal
from tests.process.faults.sweep import drain, endings, inputs_are_there
from tests.support.paths import ROOT

COMPILER = shutil.which("gcc") or shutil.which("cc")
pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="no C compiler"),
    pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD as on Linux"),
]
SHARES = (0.0, 0.5, 1.0)  # of what was not flushed: none, some, all of it survives


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorder, compiled."""
    made = tmp_path_factory.mktemp("power") / "power_loss.so"
    source = Path(__file__).with_name("power_loss.c")
    subprocess.run(
        [str(COMPILER), "-O1", "-shared", "-fPIC", "-o", made, source, "-ldl", "-lpthread"], check=True
    )
    return made


def recorded(library: Path, folder: Path, lives: list[list[str]]) -> list[Record]:
    """Run programs one after the other, each given the journal, the watched folder and when to die."""
    folder.mkdir(parents=True, exist_ok=True)
    journal, root = folder / "journal", folder / "disk"
    root.mkdir()
    assert ctypes.CDLL(str(library)).power_loss_make(str(journal).encode()) == 0
    for *command, die_at in lives:
        done = subprocess.run(
            [sys.executable, *command, str(journal), str(root), die_at],
            cwd=ROOT, env=_environment(library), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == (-9 if die_at != "0" else 0), done.stderr[-3000:]
    return read_journal(journal)


def _environment(library: Path) -> dict[str, str]:
    return os.environ | {"LD_PRELOAD": str(library)}


def cuts_of(records: list[Record], count: int, chance: random.Random) -> list[int]:
    """Right after an acknowledgement, where most is at stake, and anywhere else: half and half."""
    after_notes = [index + 1 for index, _ in power_disk.notes(records)]
    chosen = chance.sample(after_notes, min(len(after_notes), count // 2))
    return sorted(chosen + [chance.randrange(1, len(records)) for _ in range(count - len(chosen))])


def sweep(library: Path, folder: Path, cuts: int, chance: random.Random) -> int:
    """One recorded run, cut `cuts` times; the number of acknowledgements that were looked at."""
    die_at = str(chance.randrange(60, 500))
    actor = ["-m", "tests.process.faults.power_actor"]
    records = recorded(library, folder, [[*actor, die_at], [*actor, "0"]])
    disk, played, looked_at = Disk(str(folder / "disk")), 0, 0
    for number, at in enumerate(cuts_of(records, cuts, chance)):
        for record in records[played:at]:
            disk.play(record)
        played = at
        noted = [json.loads(words) for index, words in power_disk.notes(records) if index < at]
        place, share = folder / f"cut{number}", SHARES[number % 3]
        disk.cut(place, chance, share)
        where = (die_at, at, share)
        look(place / "data", noted, where)
        looked_at += len(noted)
        shutil.rmtree(place)
    return looked_at


def look(data: Path, noted: list[dict[str, Any]], where: object) -> None:
    """The service starts on what is left, keeps what it promised, and ends every job."""
    services = build(Settings(data_dir=data, runner="memory", spawn_supervisor=False, lease=30.0))
    try:
        with services.db.read() as connection:
            assert connection.execute(text("PRAGMA integrity_check")).scalar() == "ok", where
        for stat in services.blobs.walk():
            services.verifier.check(stat.digest, now())  # nothing torn, acknowledged or not
        by_kind: dict[str, list[dict[str, Any]]] = {}
        for item in noted:
            by_kind.setdefault(item["kind"], []).append(item)
        inputs_are_there(services, by_kind, where)
        for item in by_kind.get("key", ()):
            assert services.keys.check(item["secret"]).tenant == "default", where
        _jobs(services, by_kind, where)
    finally:
        services.close()


def _jobs(services: Services, by_kind: dict[str, list[dict[str, Any]]], where: object) -> None:
    ended = {item["id"] for item in by_kind.get("ended", ())}
    mine = [item["id"] for item in by_kind.get("job", ())]
    for job_id in ended:
        job = services.jobs.get("default", job_id)
        assert job.state is State.SUCCEEDED, (where, job)
        for digest in (job.artifact_digest, job.report_digest):
            services.verifier.check(str(digest), now())
    drain(services, mine)
    for job_id in mine:
        job = services.jobs.get("default", job_id)
        assert job.state is State.SUCCEEDED, (where, job)
        assert endings(services, job_id) == 1, where
        services.verifier.check(str(job.artifact_digest), now())


def test_power_cuts(library: Path, tmp_path: Path) -> None:
    assert sweep(library, tmp_path / "run", 12, random.Random(17)) > 50


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_hundred_power_cuts(library: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if "slow" not in request.config.option.markexpr:
        pytest.skip("the long form: make powerloss")
    looked_at = sum(sweep(library, tmp_path / str(run), 40, random.Random(run)) for run in range(5))
    print(f"200 cuts: {looked_at} acknowledgements looked at, 0 lost, 0 torn", flush=True)
    assert looked_at > 2000


PROGRAM = """
import ctypes, os, sys
library = ctypes.CDLL(None)
assert library.power_loss_open(sys.argv[1].encode(), sys.argv[2].encode(), ctypes.c_uint64(0)) == 0
os.chdir(sys.argv[2])
def write(name, *, sync):
    fd = os.open(name, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(fd, b"x" * 3000)
    if sync:
        os.fsync(fd)
    os.close(fd)
def sync_folder(name):
    fd = os.open(name, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
"""


@pytest.mark.parametrize(
    ("acts", "kept"),
    [
        ("write('a', sync=True); sync_folder('.')", {"a": 3000}),
        ("write('a', sync=False); sync_folder('.')", {"a": 0}),
        ("write('a', sync=True)", {}),
        ("write('t', sync=True); sync_folder('.'); os.rename('t', 'a')", {"t": 3000}),
        ("write('t', sync=True); os.rename('t', 'a'); sync_folder('.')", {"a": 3000}),
        ("os.mkdir('d'); write('d/a', sync=True); sync_folder('d')", {}),
        ("os.mkdir('d'); write('d/a', sync=True); sync_folder('d'); sync_folder('.')", {"d/a": 3000}),
        ("write('a', sync=True); sync_folder('.'); os.unlink('a')", {"a": 3000}),
        ("write('a', sync=True); sync_folder('.'); os.truncate('a', 10)", {"a": 3000}),
        ("write('a', sync=True); os.link('a', 'b'); sync_folder('.')", {"a": 3000, "b": 3000}),
    ],
)  # fmt: skip
def test_what_was_not_flushed_is_forgotten(
    library: Path, tmp_path: Path, acts: str, kept: dict[str, int]
) -> None:
    records = recorded(library, tmp_path, [["-c", PROGRAM + acts, "0"]])
    disk = Disk(str(tmp_path / "disk"))
    for record in records:
        disk.play(record)
    disk.cut(tmp_path / "none", random.Random(1), 0.0)
    assert _sizes(tmp_path / "none") == kept
    disk.cut(tmp_path / "all", random.Random(1), 1.0)
    assert _sizes(tmp_path / "all") == _sizes(tmp_path / "disk")


def _sizes(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()
    }
