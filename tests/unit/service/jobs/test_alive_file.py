"""The file by which a probe sees that a worker's heartbeat runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.jobs import heartbeat
from service.jobs.heartbeat import Heartbeat


def made(path: Path | None) -> Heartbeat:
    worker: Any = SimpleNamespace(settings=SimpleNamespace(alive_file=path))
    changes: Any = None
    return Heartbeat(worker, changes)


def test_it_is_touched_again_after_the_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: clock[0])
    path = tmp_path / "alive"
    beat = made(path)
    beat.touch()
    assert path.exists()
    path.unlink()
    beat.touch()
    assert not path.exists(), "not at every turn of the loop"
    clock[0] += heartbeat.ALIVE_INTERVAL + 1
    beat.touch()
    assert path.exists()


def test_without_the_setting_or_the_folder_nothing_happens(tmp_path: Path) -> None:
    made(None).touch()
    made(tmp_path / "missing" / "alive").touch()
    assert list(tmp_path.iterdir()) == []
