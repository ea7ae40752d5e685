"""The model of capacity against what queueing theory knows in closed form."""

from __future__ import annotations

import random

import pytest

from bench.capacity import Job, day, measured, simulate


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_one_slot_waits_as_the_formula_says(load: float) -> None:
    """M/M/1: the mean wait is load / (1 - load) service times."""
    chance, at, jobs = random.Random(3), 0.0, []
    for _ in range(60_000):
        at += chance.expovariate(load)
        jobs.append(Job(at, chance.expovariate(1.0)))
    waits = simulate(jobs, 1)
    assert sum(waits) / len(waits) == pytest.approx(load / (1 - load), rel=0.1)


def test_jobs_start_in_order_on_the_first_free_slot() -> None:
    jobs = [Job(0.0, 10.0), Job(0.0, 2.0), Job(1.0, 1.0), Job(1.0, 1.0)]
    assert simulate(jobs, 2) == [0.0, 0.0, 1.0, 2.0]
    assert simulate(jobs, 2, overhead=1.0) == [0.0, 0.0, 2.0, 4.0]


def test_a_day_has_its_jobs_and_its_peak() -> None:
    jobs = day(20_000, 5)
    assert len(jobs) == pytest.approx(20_000, rel=0.03)
    noon = sum(36_000 < job.arrives < 50_400 for job in jobs) / (4 / 24 * len(jobs))
    assert noon == pytest.approx(1.5, rel=0.1)
    assert {job.seconds for job in jobs} <= set(measured())
