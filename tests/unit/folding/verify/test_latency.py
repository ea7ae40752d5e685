"""Latency before and after: medians with intervals, and only when asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from folding.verify.providers import Cpu, latency
from folding.verify.providers.base import Session
from tests.unit.folding.verify import nets
from tests.unit.folding.verify.models import array, check


def test_intervals_hold_the_median(tmp_path: Path) -> None:
    pair = nets.build("plain", tmp_path, 1)
    feeds = {"x": array(1, 3, 16, 16)}
    found = latency.measure(Cpu(), "cpu", "enable_all", pair.unfolded, pair.folded, feeds, seconds=0.05)
    for side in ("before", "after"):
        assert 0 < found[side]["low"] <= found[side]["median"] <= found[side]["high"]
        assert found[side]["runs"] >= latency.LEAST
    assert found["speedup"]["low"] <= found["speedup"]["ratio"] <= found["speedup"]["high"]


def test_the_interval_covers_the_true_median_in_95_of_100() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        found = latency.interval(rng.exponential(1.0, 41))
        hits += found["low"] <= np.log(2) <= found["high"]
    assert 0.93 <= hits / 400 <= 0.99


def test_it_is_measured_when_asked_only(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(latency, "SECONDS", 0.05)
    pair = nets.build("mlp", tmp_path, 1)
    assert check(pair.unfolded, pair.folded).latency is None
    found = check(pair.unfolded, pair.folded, latency=True).latency
    assert found is not None
    assert set(found["cpu"]["enable_all"]) >= {"before", "after", "speedup"}


def test_the_cpu_is_measured_at_several_batch_sizes_and_numbers_of_threads(tmp_path: Path) -> None:
    pair = nets.build("plain", tmp_path, 1)
    feeds = {"x": array(1, 3, 16, 16)}
    several = [(rows, {"x": np.resize(feeds["x"], (rows, 3, 16, 16))}) for rows in latency.ROWS]
    opened: list[int] = []

    class Counted(Cpu):
        def open_with_threads(self, model: Path, level: str, threads: int) -> Session:
            opened.append(threads)
            return super().open_with_threads(model, level, threads)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "SECONDS", 0.01)
        found = latency.grid(Counted(), "enable_all", pair.unfolded, pair.folded, several)
        fixed = latency.grid(Cpu(), "enable_all", pair.unfolded, pair.folded, [(None, feeds)])
    assert {(row["batch"], row["threads"]) for row in found.values()} == {
        (rows, threads) for rows in (1, 8, 32) for threads in (1, 2)
    }
    assert opened == [1, 1, 2, 2]
    for row in found.values():
        assert row["before"]["low"] <= row["before"]["median"] <= row["before"]["high"]
        assert row["shape"]["x"][0] == row["batch"]
    assert list(fixed) == ["enable_all, 1 thread", "enable_all, 2 threads"]
