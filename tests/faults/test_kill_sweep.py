"""R1, R2: SIGKILL at every durable system call of API and worker, over both engines.

Short form here (a part of the points); `BNFOLD_SWEEP=full` takes every one, at least 500.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.faults.sweep import FILES, NETWORK, Sweep, reason_no_strace
from tests.service.conftest import settings_of

FULL = os.environ.get("BNFOLD_SWEEP") == "full"
pytestmark = pytest.mark.skipif(reason_no_strace() is not None, reason=str(reason_no_strace()))


def settings(engine: str, folder: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = {
        "data_dir": str(folder / "data"), "runner": "memory", "spawn_supervisor": False, "lease": 30.0,
    }  # fmt: skip
    if engine == "procrastinate":
        for name, value in settings_of("procrastinate-s3", request).items():
            found[name.removeprefix("BNFOLD_").lower()] = value
    return found


@pytest.mark.timeout(3000 if FULL else 300)
@pytest.mark.parametrize("role", ["api", "worker"])
@pytest.mark.parametrize("engine", ["embedded", "procrastinate"])
def test_nothing_acknowledged_is_lost(
    engine: str, role: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    sweep = Sweep(tmp_path, settings(engine, tmp_path, request))
    try:
        sweep.run(role, FILES if engine == "embedded" else NETWORK, 1 if FULL else 11, 10_000 if FULL else 2)
        print(f"{engine} {role}: {sweep.kills} kills, slowest restart {max(sweep.ready_seconds):.2f} s")
        assert sweep.kills >= (60 if FULL else 5)
        assert max(sweep.ready_seconds) < 5
    finally:
        sweep.close()
