"""R1, R2: SIGKILL at every durable system call of API and worker, over both engines.

Short form by default (a part of the points); `make killsweep` (`-m "slow or not slow"`) takes more than 500.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.process.faults.sweep import FILES, NETWORK, Sweep, reason_no_strace
from tests.support.service_fixtures import settings_of

pytestmark = pytest.mark.skipif(reason_no_strace() is not None, reason=str(reason_no_strace()))


def settings(engine: str, folder: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = {
        "data_dir": str(folder / "data"), "runner": "memory", "spawn_supervisor": False, "lease": 30.0,
    }  # fmt: skip
    if engine == "procrastinate":
        for name, value in settings_of("procrastinate-s3", request).items():
            found[name.removeprefix("BNFOLD_").lower()] = value
    return found


def sweep(engine: str, role: str, most: int, tmp_path: Path, request: pytest.FixtureRequest) -> int:
    calls = FILES if engine == "embedded" else NETWORK
    run = Sweep(tmp_path, settings(engine, tmp_path, request))
    try:
        run.run(role, calls, 1 if most > 2 else 11, most)
        slowest, kills = max(run.ready_seconds), run.kills.total()
        words = ", ".join(f"{call} {count}" for call, count in run.kills.items())
        print(f"{engine} {role}: {kills} kills ({words}), open again within {slowest:.2f} s", flush=True)
        assert slowest < 5
        return kills
    finally:
        run.close()


@pytest.mark.parametrize("role", ["api", "worker"])
@pytest.mark.parametrize("engine", ["embedded", "procrastinate"])
def test_nothing_acknowledged_is_lost(
    engine: str, role: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    assert sweep(engine, role, 2, tmp_path, request) >= 5


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("role", ["api", "worker"])
@pytest.mark.parametrize("engine", ["procrastinate", "embedded"])
def test_nothing_acknowledged_is_lost_at_any_call(
    engine: str, role: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if "slow" not in request.config.option.markexpr:
        pytest.skip("the long form: make killsweep")
    assert sweep(engine, role, 10_000, tmp_path, request) >= 60
