"""What cannot leave its place: merged, and spelled in the fewest nodes."""

# Rows are tables, and tables read across.
# ruff: noqa: E501
from __future__ import annotations

import numpy as np
import pytest

from tests.support.numbers import running_rng
from tests.unit.folding.rules.models import difference, fold, model, norm_arrays

EXACT = 1e-11
N8, O8 = norm_arrays(8), norm_arrays(8, seed=1, prefix="o")
SECOND = "BatchNormalization({}, og, ob, om, ov)"


def n(*shape: int) -> np.ndarray:
    return running_rng().normal(size=shape)


ROWS = {
    "two norms": (f"c = BatchNormalization(x, g, b, m, v) y = {SECOND.format('c')}", {}, ["BatchNormalization"]),
    "norm and Mul": ("c = BatchNormalization(x, g, b, m, v) y = Mul(c, s)", {"s": n(8, 1, 1)}, ["BatchNormalization"]),
    "Add and norm": ("c = Add(x, s) y = BatchNormalization(c, g, b, m, v)", {"s": n(8, 1, 1)}, ["BatchNormalization"]),
    "across a Transpose": (
        "c = BatchNormalization(x, g, b, m, v) t = Transpose<perm=[0,2,3,1]>(c) y = Mul(t, s)",
        {"s": n(8)}, ["BatchNormalization", "Transpose"],
    ),
    "chain of Sub, Div, Mul, Add": (
        "p = Sub(x, s) q = Div(p, d) r = Mul(q, s) y = Add(r, d)",
        {"s": n(8, 1, 1), "d": 1 + np.abs(n(8, 1, 1))}, ["BatchNormalization"],
    ),
    "chain of scalars": (
        "p = Sub(x, s) q = Div(p, d) y = Neg(q)", {"s": np.array(3.0), "d": np.array(2.0)}, ["Mul", "Add"]
    ),
    "two Adds": ("p = Add(x, s) y = Sub(p, d)", {"s": n(8, 1, 1), "d": n(8, 1, 1)}, ["Add"]),
    "two Muls": ("p = Mul(x, s) y = Div(p, d)", {"s": n(8, 1, 1), "d": 1 + np.abs(n(8, 1, 1))}, ["Mul"]),
    "what cancels": ("p = Mul(x, s) y = Div(p, s)", {"s": np.array(4.0)}, ["Identity"]),
    "last axis": ("p = Mul(x, s) q = Add(p, t) r = Mul(q, s) y = Add(r, t)", {"s": n(5), "t": n(5)}, ["Mul", "Add"]),
}  # fmt: skip


@pytest.mark.parametrize("name", list(ROWS))
def test_chain(name: str) -> None:
    body, arrays, left = ROWS[name]
    used = {
        k: v for k, v in {**N8, **O8, **arrays}.items() if f" {k}," in body or f" {k})" in body or k in arrays
    }
    folded = fold(model("T[2,8,5,5] x", body, used))
    assert folded.ops == left
    assert difference(folded) < EXACT
    assert fold(folded.after).after.SerializeToString() == folded.after.SerializeToString()


def test_a_lone_norm_is_left_untouched() -> None:
    proto = model("T[2,8,5,5] x", "y = BatchNormalization(x, g, b, m, v)", N8)
    folded = fold(proto)
    assert folded.text == ["y = BatchNormalization(x, g, b, m, v)"]
    assert list(folded.after.graph.initializer) == list(proto.graph.initializer)


def test_a_norm_between_two_branches_goes_into_both_norms_behind_it() -> None:
    body = (
        "h = BatchNormalization(x, g, b, m, v) p = Relu(x) "
        f"c = {SECOND.format('h')} d = Mul(h, s) e = Sigmoid(c) f = Tanh(d) k = Add(e, f) y = Add(k, p)"
    )
    folded = fold(model("T[2,8,5,5] x", body, {**N8, **O8, "s": n(8, 1, 1)}))
    assert folded.ops.count("BatchNormalization") <= 2
    assert difference(folded) < EXACT
    assert folded.result.decisions[0].direction == "merged"


def test_equal_norms_of_one_value_count_as_one_reader() -> None:
    """Two copies of one norm behind one conv: both are the conv's."""
    body = (
        "c = Conv(x, w) d = BatchNormalization(c, g, b, m, v) e = BatchNormalization(c, g, b, m, v) "
        "p = Relu(d) q = Sigmoid(e) y = Add(p, q)"
    )
    folded = fold(model("T[2,6,5,5] x", body, {"w": n(8, 6, 3, 3), **N8}))
    assert folded.ops == ["Conv", "Relu", "Sigmoid", "Add"]
    assert difference(folded) < EXACT


def test_equal_norms_that_are_both_outputs() -> None:
    body = "c = Conv(x, w) y = BatchNormalization(c, g, b, m, v) z = BatchNormalization(c, g, b, m, v)"
    folded = fold(model("T[2,6,5,5] x", body, {"w": n(8, 6, 3, 3), **N8}, outputs="T y, T z"))
    assert folded.ops == ["Conv", "Identity"]
    assert difference(folded) < EXACT


def test_scale_one_way_and_shift_the_other() -> None:
    """conv -> ReLU -> norm -> Add: the scale passes the ReLU, the shift passes the Add."""
    body = "a = Conv(x, w) r = Relu(a) h = BatchNormalization(r, g, b, m, v) k = Add(h, z) y = Conv(k, w2)"
    arrays = {"w": n(8, 6, 3, 3), "w2": n(3, 8, 3, 3), **N8, "g": np.abs(N8["g"])}
    folded = fold(model("T[2,6,7,7] x, T[2,8,5,5] z", body, arrays))
    assert folded.ops == ["Conv", "Relu", "Add", "Conv"]
    assert folded.result.decisions[0].direction == "both"
    assert difference(folded) < EXACT
