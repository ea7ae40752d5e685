"""Faults of disk, descriptors, memory and threads at system calls of API, worker and runner parent.

Short form by default; `make faultsweep` takes every error at many occurrences of every call. A point passes
when nothing acknowledged is lost, every job ends, none is `internal`, and the process then does its work.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.faults.sweep import FaultSweep, reason_no_strace
from tests.process.faults.test_kill_sweep import settings

pytestmark = pytest.mark.skipif(reason_no_strace() is not None, reason=str(reason_no_strace()))

DISK = ("ENOSPC", "EIO")
FEW = ("EMFILE", "ENFILE", "ENOMEM")
WRITING = ("write", "pwrite64", "fsync", "ftruncate", "mkdir", "rename")
FAULTS = (
    *((call, error) for call in WRITING for error in DISK),
    *(("openat", error) for error in (*FEW, *DISK)),
    ("fdatasync", "EIO"), ("unlink", "EIO"), ("pread64", "EIO"), ("clone3", "EAGAIN"), ("clone3", "ENOMEM"),
    ("mmap", "ENOMEM"), ("eventfd2", "EMFILE"),
)  # fmt: skip
SHORT = (("openat", "EMFILE"), ("pwrite64", "ENOSPC"), ("mkdir", "ENOSPC"), ("clone3", "EAGAIN"))


def sweep(
    engine: str,
    role: str,
    faults: tuple[tuple[str, str], ...],
    numbers: tuple[int, ...],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> int:
    run = FaultSweep(tmp_path, settings(engine, tmp_path, request) | {"lease": 2.0})
    try:
        run.run_faults(role, faults, numbers)
        words = ", ".join(f"{fault} {count}" for fault, count in run.kills.items())
        print(f"{engine} {role}: {run.kills.total()} faults ({words})", flush=True)
        return run.kills.total()
    finally:
        run.close()


@pytest.mark.parametrize("role", ["patient api", "serve", "runner"])
def test_the_machines_faults_pass(role: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    assert sweep("embedded", role, SHORT, (2,), tmp_path, request) == len(SHORT)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("role", ["patient api", "serve", "runner"])
@pytest.mark.parametrize("engine", ["embedded", "procrastinate"])
def test_the_machines_faults_pass_at_any_call(
    engine: str, role: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if "slow" not in request.config.option.markexpr:
        pytest.skip("the long form: make faultsweep")
    assert sweep(engine, role, FAULTS, (1, 2, 3, 5, 8, 13, 21), tmp_path, request) >= len(FAULTS)
