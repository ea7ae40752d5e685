"""One norm whose output meets itself again: padding cut and put together, sums, maxima, choices."""

# Rows are tables, and tables read across.
# ruff: noqa: E501
from __future__ import annotations

import numpy as np
import pytest

from folding.rules.base import SkipReason
from tests.unit.folding.rules.models import difference, fold, model, norm_arrays

EXACT = 1e-11
X = "T[2,3,6,5] x"
NORM = "n = BatchNormalization(x, g, b, m, v)"
FIRST = {"z": np.array([0]), "o": np.array([1]), "l": np.array([-1]), "e": np.array([1 << 40])}
AXES = {"a1": np.array([1]), "a2": np.array([2]), "a3": np.array([3])}
EDGES = "p = Slice({0}, l, e, {1}) q = Slice({0}, z, o, {1})"


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    return np.random.default_rng(sum(map(ord, request.node.name)))


def used(body: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    words = set(body.replace(",", " ").replace("(", " ").replace(")", " ").split())
    return {name: array for name, array in arrays.items() if name in words}


CIRCULAR = EDGES.format("n", "a3") + " c = Concat<axis=3>(p, n, q)"
INTO_CONSUMER = {
    "circular padding": (CIRCULAR, ["Slice", "Slice", "Concat", "Conv"]),
    "circular padding, both axes": (
        CIRCULAR + " p2 = Slice(c, l, e, a2) q2 = Slice(c, z, o, a2) d = Concat<axis=2>(p2, c, q2)",
        ["Slice", "Slice", "Concat"] * 2 + ["Conv"],
    ),
    "replicate padding": (
        "q = Slice(n, z, o, a3) r = Expand(q, wide) c = Concat<axis=3>(r, n, n)", ["Slice", "Expand", "Concat", "Conv"],
    ),
    "counted from the end": (EDGES.format("n", "a3") + " c = Concat<axis=-1>(q, n, p)", ["Slice", "Slice", "Concat", "Conv"]),
    "a sum of cuts": ("p = Slice(n, z, l, a3) q = Slice(n, o, e, a3) c = Add(p, q)", ["Slice", "Slice", "Add", "Conv"]),
    "a difference of cuts": ("p = Slice(n, z, l, a3) q = Slice(n, o, e, a3) c = Sub(p, q)", ["Slice", "Slice", "Sub", "Conv"]),
    "a choice": ("p = Slice(n, z, l, a3) q = Slice(n, o, e, a3) c = Where(k, p, q)", ["Slice", "Slice", "Where", "Conv"]),
    "with itself and its mean": ("p = GlobalAveragePool(n) r = Expand(p, full) c = Sum(n, r, n)", ["GlobalAveragePool", "Expand", "Sum", "Conv"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", INTO_CONSUMER)
def test_into_the_consumer(kind: str, rng: np.random.Generator) -> None:
    between, ops = INTO_CONSUMER[kind]
    last = "d" if "d =" in between else "c"
    body = f"{NORM} {between} y = Conv({last}, w)"
    arrays = {**FIRST, **AXES, "wide": np.array([1, 1, 1, 2]), "full": np.array([2, 3, 6, 5]),
              "k": np.array([True, False, True, True]), **norm_arrays(3)}  # fmt: skip
    folded = fold(model(X, body, used(body, {**arrays, "w": rng.normal(size=(4, 3, 3, 3))})))
    assert folded.ops == ops
    assert folded.result.decisions[0].folded
    assert difference(folded) < EXACT


@pytest.mark.parametrize("kind", ["circular padding", "circular padding, both axes", "counted from the end"])
def test_into_the_producer(kind: str, rng: np.random.Generator) -> None:
    between, ops = INTO_CONSUMER[kind]
    last = "d" if "d =" in between else "c"
    body = f"n = Conv(x, w) {between} y = BatchNormalization({last}, g, b, m, v)"
    arrays = used(body, {**FIRST, **AXES, **norm_arrays(4), "w": rng.normal(size=(4, 3, 1, 1))})
    folded = fold(model(X, body, arrays))
    assert folded.ops == ["Conv", *ops[:-1]]
    assert difference(folded) < EXACT


@pytest.mark.parametrize(("sign", "kept"), [(1.0, False), (-1.0, True)])
def test_maxima_ask_for_positive_scales(sign: float, kept: bool, rng: np.random.Generator) -> None:
    norm = norm_arrays(3)
    norm["g"] = sign * np.abs(norm["g"])
    body = f"{NORM} p = Slice(n, z, l, a3) q = Slice(n, o, e, a3) c = Max(p, q) y = Conv(c, w)"
    folded = fold(model(X, body, used(body, {**FIRST, **AXES, **norm, "w": rng.normal(size=(4, 3, 1, 1))})))
    assert ("BatchNormalization" in folded.ops) is kept
    assert difference(folded) < EXACT


APART = {
    "joined with something else": "p = Slice(n, l, e, a3) c = Concat<axis=3>(p, x)",
    "joined along the channels with others": "p = Slice(n, l, e, a1) c = Add(p, x)",
    "scaled on one of the ways": "p = Mul(n, h) c = Add(p, n)",
    "also read by what takes no affine": CIRCULAR + " s = Sigmoid(n) c2 = Concat<axis=3>(c, s)",
}


@pytest.mark.parametrize("kind", APART)
def test_what_does_not_meet_stays(kind: str, rng: np.random.Generator) -> None:
    last = "c2" if "c2" in APART[kind] else "c"
    body = f"{NORM} {APART[kind]} y = Conv({last}, w)"
    arrays = {
        **FIRST,
        **AXES,
        **norm_arrays(3),
        "h": rng.normal(size=(3, 1, 1)),
        "w": rng.normal(size=(4, 3, 3, 3)),
    }
    folded = fold(model(X, body, used(body, arrays)))
    assert "BatchNormalization" in folded.ops or kind.startswith(("scaled", "joined along"))
    assert difference(folded) < EXACT


def test_another_reader_of_the_producer_keeps_it(rng: np.random.Generator) -> None:
    body = f"n = Conv(x, w) {CIRCULAR} z0 = Sigmoid(n) y = BatchNormalization(c, g, b, m, v)"
    arrays = used(body, {**FIRST, **AXES, **norm_arrays(4), "w": rng.normal(size=(4, 3, 1, 1))})
    folded = fold(model(X, body, arrays, outputs="T y, T z0"))
    assert folded.result.decisions[0].reason is SkipReason.SHARED_PRODUCER_OUTPUT
    assert difference(folded) < EXACT
