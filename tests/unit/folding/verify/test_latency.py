"""Latency before and after: medians with intervals, and only when asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from folding.verify.providers import Cpu, latency
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
