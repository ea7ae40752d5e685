"""Parallel linear branches become one convolution: what fits, what does not, what is left of each graph."""

# Rows are tables, and tables read across.
# ruff: noqa: E501

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import pytest

from folding.rules.parallel_branches import Taps, lay_in
from tests.unit.folding.rules.models import Folded, difference, fold, model, norm_arrays

EXACT = 1e-11
SPACE = {1: "9", 2: "9,8", 3: "5,4,6"}


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    return np.random.default_rng(sum(map(ord, request.node.name)))


def ints(value: int, count: int) -> str:
    return "[" + ",".join([str(value)] * count) + "]"


@pytest.mark.parametrize(("space", "group", "stride"), list(product((1, 2, 3), (1, 2, 4), (1, 2))))
def test_repvgg_blocks(space: int, group: int, stride: int, rng: np.random.Generator) -> None:
    """3x3 and 1x1 with their norms, and a norm of the input where the shape stays."""
    pads, strides = ints(1, 2 * space), ints(stride, space)
    identity = stride == 1
    last = "i = BatchNormalization(x, rg, rb, rm, rv) t = Add(s, i)" if identity else "t = Identity(s)"
    body = (
        f"p = Conv<pads={pads}, strides={strides}, group={group}>(x, w3)\n"
        f"a = BatchNormalization(p, ag, ab, am, av) q = Conv<strides={strides}, group={group}>(x, w1)\n"
        f"b = BatchNormalization(q, bg, bb, bm, bv) s = Add(a, b) {last} y = Relu(t)"
    )
    arrays = {"w3": rng.normal(size=(4, 4 // group, *[3] * space)),
              "w1": rng.normal(size=(4, 4 // group, *[1] * space)),
              **norm_arrays(4, 1, "a"), **norm_arrays(4, 2, "b")}  # fmt: skip
    arrays |= norm_arrays(4, 3, "r") if identity else {}
    folded = fold(model(f"T[2,4,{SPACE[space]}] x", body, arrays))
    assert [op for op in folded.ops if op != "Identity"] == ["Conv", "Relu"]
    assert all(decision.folded for decision in folded.result.decisions)
    assert difference(folded) < EXACT


def two(first: str, second: str, w1: tuple[int, ...], w2: tuple[int, ...], rng: np.random.Generator,
        *, inputs: str = "T[1,4,9,9] x", more: str = "y = Add(a, b)", **arrays: np.ndarray) -> Folded:  # fmt: skip
    body = f"a = Conv<{first}>(x, w1) b = Conv<{second}>(x, w2) {more}"
    arrays |= {"w1": rng.normal(size=w1), "w2": rng.normal(size=w2)}
    return fold(model(inputs, body, arrays))


MERGED = {
    "two kernels of one size": ("pads=[1,1,1,1]", "pads=[1,1,1,1]", (6, 4, 3, 3), (6, 4, 3, 3)),
    "a row and a column": ("pads=[1,1,1,1]", "pads=[0,1,0,1]", (6, 4, 3, 3), (6, 4, 1, 3)),
    "a dilated one in a dense one": ("pads=[2,2,2,2]", "pads=[2,2,2,2], dilations=[2,2]", (6, 4, 5, 5), (6, 4, 3, 3)),
    "finer groups": ("pads=[1,1,1,1]", "group=4", (4, 4, 3, 3), (4, 1, 1, 1)),
    "finer groups in groups": ("pads=[1,1,1,1], group=2", "group=4, pads=[1,1,1,1]", (4, 2, 3, 3), (4, 1, 3, 3)),
    "uneven padding": ("pads=[2,0,0,2]", "pads=[1,0,0,0]", (6, 4, 3, 3), (6, 4, 2, 1)),
    "SAME padding and none": ('auto_pad="SAME_UPPER"', "group=1", (6, 4, 3, 3), (6, 4, 1, 1)),
    "SAME padding, even kernel": ("pads=[1,1,1,1]", 'auto_pad="SAME_UPPER"', (6, 4, 3, 3), (6, 4, 2, 2)),
    "SAME padding, the rest before": ('auto_pad="SAME_LOWER"', 'auto_pad="SAME_LOWER"', (6, 4, 3, 3), (6, 4, 2, 2)),
    "SAME padding, dilated": ('auto_pad="SAME_UPPER", dilations=[2,2]', 'auto_pad="SAME_LOWER"', (6, 4, 3, 3), (6, 4, 1, 1)),
    "SAME padding with strides": ('auto_pad="SAME_UPPER", strides=[2,2]', "strides=[2,2]", (6, 4, 3, 3), (6, 4, 1, 1)),
    "the smaller one first": ("group=1", "pads=[1,1,1,1]", (6, 4, 1, 1), (6, 4, 3, 3)),
}  # fmt: skip


@pytest.mark.parametrize("kind", MERGED)
def test_merged(kind: str, rng: np.random.Generator) -> None:
    folded = two(*MERGED[kind], rng)
    assert folded.ops == ["Conv"]
    assert difference(folded) < EXACT


APART = {
    "taps between those of the other": ("pads=[2,2,2,2], dilations=[2,2]", "pads=[1,1,1,1]", (6, 4, 3, 3), (6, 4, 3, 3)),
    "another stride": ("pads=[1,1,1,1], strides=[2,2]", "strides=[1,1]", (6, 4, 3, 3), (6, 4, 5, 5)),
    "another place": ("pads=[0,0,2,2]", "pads=[1,1,1,1], dilations=[1,1]", (6, 4, 3, 3), (6, 4, 3, 3)),
    "coarser groups": ("group=4, pads=[1,1,1,1]", "group=2", (4, 1, 3, 3), (4, 2, 1, 1)),
    "SAME padding that reads elsewhere": ('auto_pad="SAME_UPPER"', 'auto_pad="SAME_LOWER"', (6, 4, 2, 2), (6, 4, 2, 2)),
}  # fmt: skip


@pytest.mark.parametrize("kind", APART)
def test_left_apart(kind: str, rng: np.random.Generator) -> None:
    folded = two(*APART[kind], rng)
    assert folded.ops == ["Conv", "Conv", "Add"]
    assert difference(folded) < EXACT


READ_ELSEWHERE = {
    "a branch that is an output": ("y = Add(a, b)", "T y, T b", ["Conv", "Conv", "Add"]),
    "a branch that others read": ("y = Add(a, b) z = Relu(b)", "T y, T z", ["Conv", "Conv", "Add", "Relu"]),
    "a branch behind a rectifier": ("r = Relu(b) y = Add(a, r)", "T y", ["Conv", "Conv", "Relu", "Add"]),
}


@pytest.mark.parametrize("kind", READ_ELSEWHERE)
def test_branches_that_somebody_needs(kind: str, rng: np.random.Generator) -> None:
    more, outputs, expected = READ_ELSEWHERE[kind]
    body = f"a = Conv<pads=[1,1,1,1]>(x, w1) b = Conv(x, w2) {more}"
    arrays = {"w1": rng.normal(size=(6, 4, 3, 3)), "w2": rng.normal(size=(6, 4, 1, 1))}
    folded = fold(model("T[1,4,9,9] x", body, arrays, outputs=outputs))
    assert folded.ops == expected
    assert difference(folded) < EXACT


SUMS = {
    "with others among them": ("s = Add(a, z) t = Add(s, b) y = Add(t, x)", ["Conv", "Add"]),
    "the input first": ("s = Add(x, a) y = Add(b, s)", ["Conv"]),
    "the input twice": ("s = Add(x, x) t = Add(s, a) y = Add(t, b)", ["Conv"]),
    "one node for all": ("y = Sum(a, x, b, z)", ["Conv", "Sum"]),
    "a norm of the input among many": ("n = BatchNormalization(x, g, b0, m, v) y = Sum(b, n, a)", ["Conv"]),
    "of differences": ("y = Sub(a, b)", ["Conv", "Conv", "Sub"]),
}


@pytest.mark.parametrize("kind", SUMS)
def test_sums(kind: str, rng: np.random.Generator) -> None:
    more, expected = SUMS[kind]
    norm = {("b0" if name == "b" else name): array for name, array in norm_arrays(4, 5).items()}
    arrays = {"w1": rng.normal(size=(4, 4, 3, 3)), "w2": rng.normal(size=(4, 4, 1, 1)),
              "k": rng.normal(size=4)} | (norm if "n =" in more else {})  # fmt: skip
    body = f"a = Conv<pads=[1,1,1,1]>(x, w1, k) b = Conv(x, w2) {more}"
    folded = fold(model("T[2,4,6,6] x" + (", T[2,4,6,6] z" if "z" in more else ""), body, arrays))
    assert folded.ops == expected
    assert difference(folded) < EXACT


def test_what_is_left(rng: np.random.Generator) -> None:
    """The sum's own name stays; partial sums and branches have gone or are renamed."""
    folded = two("pads=[1,1,1,1]", "group=1", (4, 4, 3, 3), (4, 4, 1, 1), rng,
                 more="n = BatchNormalization(x, g, b0, m, v) s = Add(a, b) t = Add(s, n) y = Relu(t)",
                 **{("b0" if k == "b" else k): v for k, v in norm_arrays(4).items()})  # fmt: skip
    assert folded.text == ["t = Conv(x, w1, a/bias)", "y = Relu(t)"]
    decision = folded.result.decisions[0]
    assert (decision.into, decision.direction) == (("a",), "merged")
    assert decision.certificate is not None
    assert decision.certificate.holds


def test_weights_that_others_read_stay_theirs(rng: np.random.Generator) -> None:
    body = "a = Conv<pads=[1,1,1,1]>(x, w) b = Conv(x, u) s = Add(a, b) r = Relu(s) y = Conv(r, w)"
    arrays = {"w": rng.normal(size=(4, 4, 3, 3)), "u": rng.normal(size=(4, 4, 1, 1))}
    folded = fold(model("T[1,4,6,6] x", body, arrays))
    assert folded.ops == ["Conv", "Relu", "Conv"]
    assert difference(folded) < EXACT


def test_a_norm_before_a_padded_branch_keeps_its_shift(rng: np.random.Generator) -> None:
    """What the input lost of a shift goes to each branch by its own rule; sums are then made of all of it."""
    body = (
        "n = BatchNormalization(x, g, b0, m, v) a = Conv<pads=[1,1,1,1]>(n, w) b = Conv(n, u) y = Add(a, b)"
    )
    norm = {("b0" if name == "b" else name): array for name, array in norm_arrays(4).items()}
    arrays = {"w": rng.normal(size=(4, 4, 3, 3)), "u": rng.normal(size=(4, 4, 1, 1)), **norm}
    folded = fold(model("T[1,4,6,6] x", body, arrays))
    assert folded.ops.count("Conv") == 1
    assert difference(folded) < EXACT


def test_numbers_that_would_leave_their_type_stay_apart(rng: np.random.Generator) -> None:
    half = {"w1": np.full((2, 2, 1, 1), 6e4), "w2": np.full((2, 2, 1, 1), 6e4)}
    folded = fold(
        model("T[1,2,3,3] x", "a = Conv(x, w1) b = Conv(x, w2) y = Add(a, b)", half, dtype="float16")
    )
    assert folded.ops == ["Conv", "Conv", "Add"]


def test_laying_in_is_exact_in_rational_numbers(rng: np.random.Generator) -> None:
    """Object arrays of integers: a product has no rounding to hide behind."""
    wide = rng.integers(-9, 9, size=(2, 2, 5)).astype(object)
    dilated = rng.integers(-9, 9, size=(2, 2, 2)).astype(object)
    total = wide.copy()
    host, inner = Taps((-2,), (1,), (5,), (1,), (0,)), Taps((-1,), (3,), (2,), (1,), (0,))
    assert lay_in(dilated, inner, 1, total, host, 1)
    expected = wide.copy()
    expected[:, :, 1] += dilated[:, :, 0]
    expected[:, :, 4] += dilated[:, :, 1]
    assert (total == expected).all()


def test_the_artifact_is_valid_onnx(rng: np.random.Generator) -> None:
    folded = two(*MERGED["finer groups"], rng)
    onnx.checker.check_model(folded.after, full_check=True)
