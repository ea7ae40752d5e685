"""The measurement of the jail's cost: its words, and one short run of it on real processes."""

from __future__ import annotations

import random
from pathlib import Path

from bench.nets import mlp
from tests.process.security.measure import UNITS, interval, judged, line, measure, runners


def samples(centre: float, spread: float, count: int = 60) -> list[float]:
    chance = random.Random(3)
    return [chance.gauss(centre, spread) for _ in range(count)]


def test_a_clear_case_is_decided() -> None:
    assert judged(interval(samples(0.5, 2.0)), 3.0) == "shown"
    assert judged(interval(samples(9.0, 2.0)), 3.0) == "missed"


def test_noise_decides_nothing() -> None:
    assert judged(interval([-40.0, 46.0] * 20), 3.0) == "undecided"


def test_the_interval_holds_the_middle_and_shrinks() -> None:
    few, many = interval(samples(1.0, 5.0, 20)), interval(samples(1.0, 5.0, 2000))
    for middle, low, high in (few, many):
        assert low <= middle <= high
    assert many[2] - many[1] < few[2] - few[1]


def test_few_rounds_decide_nothing() -> None:
    assert line("full", "job", [1.0, 1.1, 0.9]).endswith("undecided")


def test_one_round_on_real_processes(tmp_path: Path) -> None:
    """Every way this machine has really folds and verifies; how fast is not for this test to say."""
    model = tmp_path / "model.onnx"
    mlp(model)
    made = runners(tmp_path / "scratch")
    try:
        assert {"strong", "full"} & set(made), "no jail to measure"
        found = measure(made, model, tmp_path, 0.0, turns=0.0)
    finally:
        for each in made.values():
            each.close()
    assert set(found) == set(made) - {"none"}
    for figures in found.values():
        assert all(len(getattr(figures, kind)) == 1 for kind in UNITS)
