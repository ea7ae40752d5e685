"""Whatever the graph: outputs are the same numbers, folding again changes nothing, the interface stays.

Judged in float64, where an exact fold differs by summation order alone; a fold that is not exact is off by
orders of magnitude more.
"""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.folding.rules.models import feeds, fold, run
from tests.properties.graphs import MAKERS, build

PLANS = st.lists(st.tuples(st.integers(0, len(MAKERS) - 1), st.integers(0, 2**20)), min_size=1, max_size=9)
SETTINGS = settings(
    max_examples=2000, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip


@given(PLANS)
@SETTINGS
def test_folding_preserves_outputs_and_is_idempotent(plan: list[tuple[int, int]]) -> None:
    proto = build(plan)
    folded = fold(proto)  # asserts a valid model and an unchanged interface
    given_inputs = feeds(proto, seed=len(plan))
    with np.errstate(all="ignore"):
        before, after = run(proto, given_inputs), run(folded.after, given_inputs)
    for a, b in zip(before, after, strict=True):
        assert a.shape == b.shape
        scale = max(float(np.abs(a).max(initial=0)), 1e-6)
        assert float(np.abs(a - b).max(initial=0)) <= 1e-9 * scale, folded.text
    again = fold(folded.after)
    assert again.after.SerializeToString() == folded.after.SerializeToString(), (folded.text, again.text)
