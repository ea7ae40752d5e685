"""The words that the measurement of the jail's cost uses: shown, missed, undecided."""

from __future__ import annotations

import random

from tests.security.measure import interval, judged


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
