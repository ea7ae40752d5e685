"""The power of the verdict, as a sample; `python -m bench.mutations` runs 1,000 and 1,000."""

from __future__ import annotations

import pytest

from bench.mutations import render, run


@pytest.mark.parametrize(
    ("mutants", "correct"), [(30, 15), pytest.param(200, 200, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_every_mutant_of_the_sample_is_caught_and_no_correct_fold_rejected(
    mutants: int, correct: int
) -> None:
    outcome = run(mutants, correct, seed=11)
    assert outcome.power >= 0.99, render(outcome)
    assert outcome.rejected == 0, render(outcome)


def test_layer_by_layer_catches_what_drowns_end_to_end() -> None:
    """A channel off by 1e-3 is under the end-to-end noise of some deep nets; the segments still see it.

    The segments in float64 do: there nothing but the casts of the changed constants may differ. The segments
    in float32 are bounded by what any order of summation may do, which is wider than this fault.
    """
    outcome = run(10, 0, seed=3)
    assert outcome.by_part["corrupt_channel"]["float64 layers"] == 10, render(outcome)
