"""Whatever the graph: outputs are the same numbers, folding again changes nothing, the interface stays.

Judged in float64, where an exact fold differs by summation order alone; a fold that is not exact is off by
orders of magnitude more.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from folding import export, norms, passes, rules
from folding.options import FoldOptions
from tests.unit.folding.random_graphs import MAKERS, build, vaguer
from tests.unit.folding.rules.models import feeds, fold, run

PLANS = st.lists(st.tuples(st.integers(0, len(MAKERS) - 1), st.integers(0, 2**20)), min_size=1, max_size=9)
SETTINGS = settings(
    deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip


def sweep(short: int, long: int) -> pytest.MarkDecorator:
    """Run a property over so many examples; the long form runs in `make sweeps`."""
    return pytest.mark.parametrize("examples", [short, pytest.param(long, marks=pytest.mark.slow)])


@sweep(150, 10_000)
def test_folding_preserves_outputs_and_is_idempotent(examples: int) -> None:
    settings(SETTINGS, max_examples=examples)(given(PLANS)(fold_twice))()


@pytest.mark.parametrize(
    "plan",
    [
        [
            (5, 59199),
            (29, 48488),
            (4, 31612),
            (17, 17),
            (17, 7118),
            (17, 7118),
        ],  # scalars behind Tanh and Mul
        [(8, 48851), (1, 17148), (8, 534), (8, 41491)],  # cleaning moves channels to axis 1
        [(15, 184), (15, 107779), (15, 107779), (21, 1048576), (21, 1048576)],  # a value without axes
    ],
)
def test_graphs_that_a_second_run_made_smaller(plan: list[tuple[int, int]]) -> None:
    whole_way(plan, 1)


def fold_twice(plan: list[tuple[int, int]]) -> None:
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


def whole(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Preparation, fold and cleaning, as an artifact gets them."""
    model, options = ir.from_proto(proto), FoldOptions()
    passes.prepare(model, options)
    rules.fold_and_clean(model, norms.find(model), options)
    made = ir.to_proto(model)
    export.check(made, {})
    return made


@sweep(60, 10_000)
def test_the_whole_way_keeps_interfaces_that_say_little(examples: int) -> None:
    settings(SETTINGS, max_examples=examples)(given(PLANS, st.integers(1, 3))(whole_way))()


def whole_way(plan: list[tuple[int, int]], how: int) -> None:
    """Dimensions without numbers, outputs without shape, optional outputs: nothing is guessed from them."""
    sharp = build(plan)
    vague = onnx.ModelProto()
    vague.CopyFrom(sharp)
    after = whole(vaguer(vague, how))
    assert list(after.graph.input) == list(vague.graph.input)
    for end, declared in zip(after.graph.output, vague.graph.output, strict=True):
        if not declared.type.tensor_type.HasField("shape"):  # the checker asks for one: what is known of it
            assert "unk__" not in str(end)
            end.type.tensor_type.ClearField("shape")
        assert end == declared
    given_inputs = feeds(sharp, seed=len(plan))
    with np.errstate(all="ignore"):
        before, numbers = run(sharp, given_inputs), run(after, given_inputs)
    for a, b in zip(before, numbers, strict=True):
        assert a.shape == b.shape
        scale = max(float(np.abs(a).max(initial=0)), 1e-6)
        assert float(np.abs(a - b).max(initial=0)) <= 1e-9 * scale, [n.op_type for n in after.graph.node]
    again = whole(after)
    assert len(again.graph.node) == len(after.graph.node)
