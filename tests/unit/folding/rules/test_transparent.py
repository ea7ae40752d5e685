"""Nodes that an affine passes, both ways, and where each of them stops it."""

# Rows are tables, and tables read across.
# ruff: noqa: E501
from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from folding.rules.base import SkipReason
from folding.rules.patch import SetAttribute, SetConstantInput, problem
from tests.support.numbers import running_rng
from tests.unit.folding.rules.models import difference, fold, model, norm_arrays

EXACT = 1e-11
BN = "BatchNormalization"


def n(*shape: int) -> np.ndarray:
    return running_rng().normal(size=shape)


N8, N6, N4 = norm_arrays(8), norm_arrays(6), norm_arrays(4)
POSITIVE = {**N8, "g": np.abs(N8["g"]) + 0.1}
NEGATIVE = {**N8, "g": -np.abs(N8["g"]) - 0.1}


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


SCALES = np.array([1, 1, 2, 2], np.float32)

# What stands between a Conv with 8 channels (2, 8, 4, 4) and a norm over 8 channels; nothing of the norm stays.
BETWEEN_PRODUCER = {
    "Identity": ("c = Identity(a)", {}),
    "Dropout": ("c = Dropout(a)", {}),
    "Dropout with ratio": ("c = Dropout(a, r)", {"r": np.array(0.5, np.float32)}),
    "Transpose there and back": ("q = Transpose<perm=[0,2,3,1]>(a) c = Transpose<perm=[0,3,1,2]>(q)", {}),
    "Squeeze": ("q = Unsqueeze(a, ax) c = Squeeze(q, ax)", {"ax": ints(0)}),
    "Reshape keeping channels": ("c = Reshape(a, sh)", {"sh": ints(2, 8, 16)}),
    "Reshape splitting channels": ("q = Reshape(a, s1) c = Reshape(q, s2)", {"s1": ints(2, 2, 4, 16), "s2": ints(2, 8, 4, 4)}),
    "channel shuffle": (
        "q = Reshape(a, s1) t = Transpose<perm=[0,2,1,3,4]>(q) c = Reshape(t, s2)",
        {"s1": ints(2, 2, 4, 4, 4), "s2": ints(2, 8, 4, 4)},
    ),
    "Flatten of pooled": ("q = GlobalAveragePool(a) c = Flatten(q)", {}),
    "AveragePool": ("c = AveragePool<kernel_shape=[2,2], strides=[2,2]>(a)", {}),
    "AveragePool, padding not counted": ("c = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(a)", {}),
    "AveragePool, unpadded, counting": ("c = AveragePool<kernel_shape=[2,2], count_include_pad=1>(a)", {}),
    "ReduceMean": ("c = ReduceMean(a, ax)", {"ax": ints(2, 3)}),
    "ReduceMean without dims": ("c = ReduceMean<keepdims=0>(a, ax)", {"ax": ints(-1, -2)}),
    "Resize nearest": ('c = Resize<mode="nearest">(a, , sc)', {"sc": SCALES}),
    "Resize linear": ('c = Resize<mode="linear">(a, , sc)', {"sc": SCALES}),
    "Resize cubic": ('c = Resize<mode="cubic">(a, , sc)', {"sc": SCALES}),
    "Pad reflect": ('c = Pad<mode="reflect">(a, p)', {"p": ints(0, 0, 1, 1, 0, 0, 1, 1)}),
    "Pad edge": ('c = Pad<mode="edge">(a, p)', {"p": ints(0, 0, 1, 1, 0, 0, 1, 1)}),
    "SpaceToDepth and back": ("q = SpaceToDepth<blocksize=2>(a) c = DepthToSpace<blocksize=2>(q)", {}),
    "Expand of new axis": ("q = GlobalAveragePool(a) c = Expand(q, sh)", {"sh": ints(2, 8, 3, 3)}),
    "Tile over space": ("c = Tile(a, re)", {"re": ints(1, 1, 2, 1)}),
    "Slice over space": ("c = Slice(a, z, e, ax, st)", {"z": ints(3), "e": ints(-99), "ax": ints(2), "st": ints(-1)}),
    "Gather of channels": ("c = Gather<axis=1>(a, i)", {"i": ints(7, 6, 5, 4, 3, 2, 1, 0)}),
    "Gather along space": ("c = Gather<axis=2>(a, i)", {"i": ints(1)}),
    "sum with itself": ("c = Add(a, a)", {}),
    "difference of two": ("d = Conv(x, w2) c = Sub(d, a)", {"w2": n(8, 6, 1, 1)}),
    "sum of three": ("d = Conv(x, w2) e = Conv(x, w3) c = Sum(a, d, e)", {"w2": n(8, 6, 1, 1), "w3": n(8, 6, 1, 1)}),
    "sum of a wide and a narrow branch": (
        "p = GlobalAveragePool(x) d = Conv(p, w2) c = Add(a, d)", {"w2": n(8, 6, 1, 1)},
    ),
    "also read for its shape": ("z = Shape(a) c = Identity(a)", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BETWEEN_PRODUCER))
def test_the_norm_reaches_its_producer(name: str) -> None:
    between, arrays = BETWEEN_PRODUCER[name]
    body = f"a = Conv(x, w) {between} y = BatchNormalization(c, g, b, m, v)"
    outputs = "T y, int64 z" if "z = Shape" in between else ""
    folded = fold(model("T[2,6,4,4] x", body, {"w": n(8, 6, 1, 1), **arrays, **N8}, outputs=outputs))
    assert BN not in folded.ops
    assert "Add" not in folded.ops or "sum" in name
    assert difference(folded) < EXACT


POSITIVE_ONLY = {
    "MaxPool": "c = MaxPool<kernel_shape=[2,2]>(a)",
    "MaxPool padded": "c = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(a)",
    "GlobalMaxPool": "c = GlobalMaxPool(a)",
    "ReduceMax": "c = ReduceMax(a, ax)",
    "ReduceMin": "c = ReduceMin(a, ax)",
}


@pytest.mark.parametrize("name", list(POSITIVE_ONLY))
def test_maxima_are_passed_by_positive_scales_only(name: str) -> None:
    body = f"a = Conv(x, w) {POSITIVE_ONLY[name]} y = BatchNormalization(c, g, b, m, v)"
    arrays = {"w": n(8, 6, 1, 1), "ax": ints(2, 3)}
    if "Reduce" not in name:
        del arrays["ax"]
    folded = fold(model("T[2,6,4,4] x", body, {**arrays, **POSITIVE}))
    assert BN not in folded.ops
    assert difference(folded) < EXACT
    kept = fold(model("T[2,6,4,4] x", body, {**arrays, **NEGATIVE}))
    assert BN in kept.ops
    assert kept.result.decisions[0].reason is SkipReason.NEGATIVE_SCALE
    assert difference(kept) < EXACT


RECTIFIERS = {"Relu": "c = Relu(a)", "LeakyRelu": "c = LeakyRelu<alpha=0.2>(a)", "PRelu": "c = PRelu(a, sl)"}


@pytest.mark.parametrize("name", list(RECTIFIERS))
def test_rectifiers_are_passed_by_the_scale(name: str) -> None:
    body = f"a = Conv(x, w) {RECTIFIERS[name]} y = BatchNormalization(c, g, b, m, v)"
    arrays = {"w": n(8, 6, 1, 1)} | ({"sl": n(8, 1, 1)} if name == "PRelu" else {})
    scaled = fold(
        model("T[2,6,4,4] x", body.split(" y = ")[0] + " y = Mul(c, s)", {**arrays, "s": np.abs(n(8, 1, 1))})
    )
    assert scaled.ops == ["Conv", name]
    assert difference(scaled) < EXACT
    # A shift would have to stay: one Add for one BatchNormalization, which runtimes fuse better.
    normed = fold(model("T[2,6,4,4] x", body, {**arrays, **POSITIVE}))
    assert normed.ops == ["Conv", name, BN]
    assert normed.result.decisions[0].reason is SkipReason.NONLINEARITY_BETWEEN
    # Over another axis the norm takes two nodes, and one of them can go.
    last = body.split(" y = ")[0] + " h = Transpose<perm=[0,2,3,1]>(c) p = Mul(h, s) y = Add(p, t)"
    spelled = fold(model("T[2,6,4,4] x", last, {**arrays, "s": np.abs(n(8)), "t": n(8)}))
    assert spelled.ops == ["Conv", name, "Transpose", "Add"]
    assert difference(spelled) < EXACT
    kept = fold(model("T[2,6,4,4] x", body, {**arrays, **NEGATIVE}))
    assert kept.ops == ["Conv", name, BN]
    assert difference(kept) < EXACT


TURNED = {
    "producer, a slope for each channel": ("c = Conv(x, w) r = PRelu(c, sl) y = Mul(r, s)", (8, 1, 1)),
    "producer, one slope": ("c = Conv(x, w) r = PRelu(c, sl) y = Mul(r, s)", (1,)),
    "producer, all negative, LeakyRelu": ("c = Conv(x, w) r = LeakyRelu<alpha=0.25>(c) y = Mul(r, minus)", ()),
    "consumer": ("p = Mul(x, s) r = PRelu(p, sl) y = Conv(r, w)", (8, 1, 1)),
    "consumer, Abs": ("p = Mul(x, s) r = Abs(p) y = Conv(r, w)", ()),
    "a norm before pooling": (
        ("c = Conv(x, w) r = PRelu(c, sl) h = BatchNormalization(r, g, b, m, v) "
        "p = MaxPool<kernel_shape=[2,2]>(h) y = Conv(p, w)"), (8, 1, 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TURNED)
def test_negative_scales_turn_slopes_over(kind: str) -> None:
    body, slopes = TURNED[kind]
    known = {"w": n(8, 8, 1, 1), "s": n(8, 1, 1), "minus": -np.abs(n(8, 1, 1)), **NEGATIVE}
    known |= {"sl": 0.1 + np.abs(n(*slopes))} if "sl" in body else {}
    given = {name: a for name, a in known.items() if f" {name}" in body}
    folded = fold(model("T[2,8,4,4] x", body, given))
    assert not {"Mul", BN} & set(folded.ops), folded.ops
    assert difference(folded) < EXACT


@pytest.mark.parametrize("slope", [0.0, -0.5, 1e-6])
def test_slopes_that_cannot_be_turned_over(slope: float) -> None:
    body = "c = Conv(x, w) r = PRelu(c, sl) y = Mul(r, s)"
    arrays = {"w": n(8, 6, 1, 1), "sl": np.full((8, 1, 1), slope), "s": n(8, 1, 1)}
    folded = fold(model("T[2,6,4,4] x", body, arrays))
    assert "Mul" in folded.ops
    assert difference(folded) < EXACT


# What stands between a norm over 8 channels (2, 8, 4, 4) and a consumer that absorbs.
BETWEEN_CONSUMER = {
    "Identity": ("q = Identity(h) y = Conv(q, w)", {"w": n(3, 8, 1, 1)}),
    "Transpose and MatMul": ("q = Transpose<perm=[0,2,3,1]>(h) y = MatMul(q, w)", {"w": n(8, 3)}),
    "Flatten": ("q = Flatten(h) y = Gemm(q, w)", {"w": n(128, 3)}),
    "Reshape": ("q = Reshape(h, sh) y = MatMul(q, w)", {"w": n(128, 3), "sh": ints(-1, 128)}),
    "GlobalAveragePool": ("q = GlobalAveragePool(h) f = Flatten(q) y = Gemm(f, w)", {"w": n(8, 3)}),
    "AveragePool": ("q = AveragePool<kernel_shape=[2,2]>(h) y = Conv(q, w)", {"w": n(3, 8, 1, 1)}),
    "Concat with another": ("q = Concat<axis=1>(x, h) y = Conv(q, w)", {"w": n(3, 16, 3, 3)}),
    "Concat with itself": ("q = Concat<axis=1>(h, h) y = Conv(q, w)", {"w": n(3, 16, 3, 3)}),
    "Split": (
        "p, q = Split<axis=1>(h, sp) c = Conv(p, w) d = Conv(q, w2) y = Add(c, d)",
        {"sp": ints(5, 3), "w": n(3, 5, 1, 1), "w2": n(3, 3, 1, 1)},
    ),
    "Slices": (
        "p = Slice(h, z0, z5, ax) q = Slice(h, z5, z9, ax) c = Conv(p, w) d = Conv(q, w2) y = Add(c, d)",
        {"z0": ints(0), "z5": ints(5), "z9": ints(99), "ax": ints(1), "w": n(3, 5, 1, 1), "w2": n(3, 3, 1, 1)},
    ),
    "SpaceToDepth": ("q = SpaceToDepth<blocksize=2>(h) y = Conv(q, w)", {"w": n(3, 32, 1, 1)}),
    "Gather of channels": ("q = Gather<axis=1>(h, i) y = Conv(q, w)", {"i": ints(1, 3, 3), "w": n(3, 3, 1, 1)}),
    "Resize": ('q = Resize<mode="linear">(h, , sc) y = Conv(q, w)', {"sc": SCALES, "w": n(3, 8, 3, 3)}),
    "Pad reflect": ('q = Pad<mode="reflect">(h, p) y = Conv(q, w)', {"p": ints(0, 0, 1, 1, 0, 0, 1, 1), "w": n(3, 8, 3, 3)}),
    "several consumers": (
        "c = Conv(h, w) d = Conv(h, w2) y = Add(c, d)", {"w": n(3, 8, 1, 1), "w2": n(3, 8, 1, 1)},
    ),
    "also read for its shape": ("y = Conv(h, w) z = Shape(h)", {"w": n(3, 8, 1, 1)}),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BETWEEN_CONSUMER))
def test_the_norm_reaches_all_its_consumers(name: str) -> None:
    body, arrays = BETWEEN_CONSUMER[name]
    outputs = "T y, int64 z" if "z = Shape" in body else ""
    folded = fold(
        model(
            "T[2,8,4,4] x", f"h = BatchNormalization(x, g, b, m, v) {body}", {**arrays, **N8}, outputs=outputs
        )
    )
    assert BN not in folded.ops
    assert folded.result.decisions[0].direction == "into_consumer"
    assert difference(folded) < EXACT


def test_slices_of_one_conv_fold_each_its_own_part() -> None:
    body = (
        "c = Conv(x, w) p = Slice(c, z0, z8, ax) q = Slice(c, z8, z16, ax) "
        "d = BatchNormalization(p, g, b, m, v) e = BatchNormalization(q, g, b, m, v) f = Sigmoid(e) y = Add(d, f)"
    )
    arrays = {"w": n(16, 6, 3, 3), "z0": ints(0), "z8": ints(8), "z16": ints(16), "ax": ints(1), **N8}
    folded = fold(model("T[2,6,5,5] x", body, arrays))
    assert BN not in folded.ops
    assert difference(folded) < EXACT


def test_overlapping_slices_do_not_fold() -> None:
    body = (
        "c = Conv(x, w) p = Slice(c, z0, z9, ax) q = Slice(c, z8, z16, ax) "
        "d = BatchNormalization(q, g, b, m, v) e = ReduceMean(p, ax) y = Add(d, e)"
    )
    arrays = {
        "w": n(16, 6, 3, 3),
        "z0": ints(0),
        "z9": ints(9),
        "z8": ints(8),
        "z16": ints(16),
        "ax": ints(1),
        **N8,
    }
    folded = fold(model("T[2,6,5,5] x", body, arrays))
    assert BN in folded.ops
    assert folded.result.decisions[0].reason is SkipReason.SHARED_PRODUCER_OUTPUT
    assert difference(folded) < EXACT


def test_pad_with_zeros_is_passed_by_the_scale() -> None:
    arrays = {"w": n(8, 6, 3, 3), "p": ints(0, 0, 1, 1, 0, 0, 1, 1)}
    body = "a = Conv(x, w) c = Pad(a, p) "
    scaled = fold(model("T[2,6,5,5] x", body + "y = Mul(c, s)", {**arrays, "s": n(8, 1, 1)}))
    assert scaled.ops == ["Conv", "Pad"]
    assert difference(scaled) < EXACT
    normed = fold(model("T[2,6,5,5] x", body + "y = BatchNormalization(c, g, b, m, v)", {**arrays, **N8}))
    assert normed.ops == ["Conv", "Pad", "Add"]
    assert normed.result.decisions[0].reason is SkipReason.PADDED_SHIFT
    assert difference(normed) < EXACT


def test_pad_takes_another_value_where_one_fits_all_channels() -> None:
    arrays = {"w": n(8, 6, 3, 3), "p": ints(0, 0, 1, 1, 0, 0, 1, 1), "s": np.array(1.5), "t": np.array(-0.5)}
    folded = fold(model("T[2,6,5,5] x", "a = Conv(x, w) c = Pad(a, p) d = Mul(c, s) y = Add(d, t)", arrays))
    assert folded.ops == ["Conv", "Pad"]
    assert difference(folded) < EXACT


def test_a_patch_can_be_printed_and_checked() -> None:
    pad = ir.node("Pad", [ir.val("x"), ir.val("p")], outputs=[ir.val("c")])
    good = SetConstantInput(pad, 2, "value", -0.5, ir.DataType.FLOAT16)
    assert str(good) == "Pad `c`: input 2 (value) = -0.5"
    assert problem(good) is None
    assert "FLOAT16 does not hold it" in str(
        problem(SetConstantInput(pad, 2, "value", 1e5, ir.DataType.FLOAT16))
    )
    assert str(SetAttribute(pad, "value", 2.0)) == "Pad `c`: attribute value = 2"


def test_average_pool_that_counts_padding_is_passed_by_the_scale() -> None:
    body = (
        "a = Conv(x, w) c = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(a) "
        "y = BatchNormalization(c, g, b, m, v)"
    )
    folded = fold(model("T[2,6,5,5] x", body, {"w": n(8, 6, 3, 3), **N8}))
    assert folded.ops == ["Conv", "AveragePool", "Add"]
    assert difference(folded) < EXACT


def test_gate_is_passed_by_the_scale() -> None:
    body = (
        "c = Conv(x, w) p = GlobalAveragePool(x) q = Conv(p, w2) e = Sigmoid(q) k = Mul(c, e) y = Mul(k, s)"
    )
    arrays = {"w": n(8, 6, 3, 3), "w2": n(8, 6, 1, 1), "s": n(8, 1, 1)}
    folded = fold(model("T[2,6,5,5] x", body, arrays))
    assert folded.ops == ["Conv", "GlobalAveragePool", "Conv", "Sigmoid", "Mul"]
    assert difference(folded) < EXACT


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space_repeats_channels(mode: str) -> None:
    body = f'a = Conv(x, w) c = DepthToSpace<blocksize=2, mode="{mode}">(a) y = BatchNormalization(c, g, b, m, v)'
    folded = fold(model("T[2,6,5,5] x", body, {"w": n(16, 6, 3, 3), **N4}))
    assert folded.ops == ["Conv", "DepthToSpace"]
    assert difference(folded) < EXACT


def test_dynamic_batch_does_not_matter() -> None:
    for body, arrays in (
        ("c = Conv(x, w) f = Flatten(c) y = BatchNormalization(f, g, b, m, v)", {"w": n(8, 6, 3, 3), **N8}),
        ("h = BatchNormalization(x, g, b, m, v) f = Reshape(h, sh) y = Gemm(f, w)", {"w": n(54, 8), "sh": ints(-1, 54), **N6}),
        ("h = BatchNormalization(x, g, b, m, v) f = Reshape(h, sh) y = Gemm(f, w)", {"w": n(54, 8), "sh": ints(0, -1), **N6}),
    ):  # fmt: skip
        folded = fold(model("T[N,6,3,3] x", body, arrays))
        assert BN not in folded.ops
        assert difference(folded) < EXACT


def test_decomposed_activations_are_left_to_the_runtime() -> None:
    """GELU's constants could go into the product behind it; then no runtime would see the GELU."""
    body = "c = MatMul(x, w) k = Div(c, root) e = Erf(k) f = Add(e, one) p = Mul(c, f) h = Mul(p, half) y = MatMul(h, w2)"
    arrays = {
        "w": n(6, 8),
        "w2": n(8, 3),
        "root": np.array(2**0.5),
        "one": np.array(1.0),
        "half": np.array(0.5),
    }
    folded = fold(model("T[2,4,6] x", body, arrays))
    assert folded.ops == ["MatMul", "Div", "Erf", "Add", "Mul", "Mul", "MatMul"]
