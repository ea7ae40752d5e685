"""Every pattern that the field's optimizers leave, get wrong, or crash on, by name: ours are folded and right.

A row says what the graph is and which operators may be left. Rows that must not fold (an axis that is not the
channels', training mode) say so by keeping their operators.
"""

# Rows are tables, and tables read across.
# ruff: noqa: E501
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.support.numbers import running_rng
from tests.unit.folding.rules.models import difference, fold, model, norm_arrays

EXACT = 1e-11
BN = "BatchNormalization"


def n(*shape: int) -> np.ndarray:
    return running_rng().normal(size=shape)


N8, N6, P8 = norm_arrays(8), norm_arrays(6), {**norm_arrays(8), "g": np.abs(norm_arrays(8)["g"]) + 0.1}
W, W1, W3 = {"w": n(8, 6, 3, 3)}, {"w": n(8, 6, 3)}, {"w": n(8, 6, 3, 3, 3)}
C8 = {"s": n(8, 1, 1), "t": n(8, 1, 1), "d": 1.0 + np.abs(n(1, 8, 1, 1)), "e": n(8, 1, 1)}
X = "T[2,6,7,7] x"
NORM = "y = BatchNormalization(c, g, b, m, v)"


@dataclass
class Row:
    inputs: str
    body: str
    arrays: dict[str, np.ndarray]
    left: list[str]
    exact: float = EXACT
    options: dict[str, object] = field(default_factory=dict)


ROWS = {
    "Conv 1D + BN": Row("T[2,6,7] x", f"c = Conv(x, w) {NORM}", {**W1, **N8}, ["Conv"]),
    "Conv 2D + BN": Row(X, f"c = Conv(x, w) {NORM}", {**W, **N8}, ["Conv"]),
    "Conv 3D + BN": Row("T[1,6,4,4,4] x", f"c = Conv(x, w) {NORM}", {**W3, **N8}, ["Conv"]),
    "grouped Conv + BN": Row(X, f"c = Conv<group=2>(x, w) {NORM}", {"w": n(8, 3, 3, 3), **N8}, ["Conv"]),
    "depthwise Conv + BN": Row(X, f"c = Conv<group=6>(x, w) {NORM}", {"w": n(6, 1, 3, 3), **N6}, ["Conv"]),
    "ConvTranspose + BN": Row(X, f"c = ConvTranspose(x, w) {NORM}", {"w": n(6, 8, 3, 3), **N8}, ["ConvTranspose"]),
    "grouped ConvTranspose + BN": Row(
        X, f"c = ConvTranspose<group=2>(x, w) {NORM}", {"w": n(6, 4, 3, 3), **N8}, ["ConvTranspose"]
    ),
    "Gemm + BN": Row(
        "T[6,4] x", f"c = Gemm<transA=1, transB=1, alpha=0.5, beta=2.0>(x, w, k) {NORM}",
        {"w": n(8, 6), "k": n(4, 8), **N8}, ["Gemm"],
    ),
    "MatMul + BN, 2-D": Row("T[4,6] x", f"c = MatMul(x, w) {NORM}", {"w": n(6, 8), **N8}, ["Gemm"]),
    "MatMul + Add -> BN": Row(
        "T[4,6] x", f"p = MatMul(x, w) c = Add(p, k) {NORM}", {"w": n(6, 8), "k": n(8), **N8}, ["MatMul", "Add"]
    ),
    "3-D MatMul -> Transpose -> BN": Row(
        "T[2,4,6] x", f"p = MatMul(x, w) q = Add(k, p) c = Transpose<perm=[0,2,1]>(q) {NORM}",
        {"w": n(6, 8), "k": n(8), **N8}, ["MatMul", "Add", "Transpose"],
    ),
    "MatMul -> BN with another axis than its channels": Row(
        "T[2,8,8] x", f"c = MatMul(x, w) {NORM}", {"w": n(8, 8), **N8}, ["MatMul", BN]
    ),
    "MatMul -> Transpose -> BN with the channel axis moved away": Row(
        "T[8,8] x", f"p = MatMul(x, w) c = Transpose(p) {NORM}", {"w": n(8, 8), **N8}, ["MatMul", "Transpose", BN]
    ),
    "MatMul -> Reshape -> BN with the channel axis moved": Row(
        "T[2,4,8] x", f"p = MatMul(x, w) c = Reshape(p, sh) {NORM}",
        {"w": n(8, 8), "sh": np.array([2, 8, 4]), **N8}, ["MatMul", "Reshape", BN],
    ),
    "Conv -> Mul -> Add, constants right": Row(X, "c = Conv(x, w) p = Mul(c, s) y = Add(p, t)", {**W, **C8}, ["Conv"]),
    "Conv -> Mul -> Add, constants left": Row(X, "c = Conv(x, w) p = Mul(s, c) y = Add(t, p)", {**W, **C8}, ["Conv"]),
    "Conv -> Sub -> Div -> Mul -> Add": Row(
        X, "c = Conv(x, w) p = Sub(c, s) q = Div(p, d) r = Mul(q, e) y = Add(r, t)", {**W, **C8}, ["Conv"]
    ),
    "Conv -> Sub from the left -> Neg": Row(
        X, "c = Conv(x, w) p = Sub(s, c) q = Neg(p) y = Sub(q, t)", {**W, **C8}, ["Conv"]
    ),
    "NHWC last-axis constants behind Transpose": Row(
        X, "c = Conv(x, w) h = Transpose<perm=[0,2,3,1]>(c) p = Mul(h, s) y = Add(p, t)",
        {**W, "s": n(8), "t": n(8)}, ["Conv", "Transpose"],
    ),
    "Conv times a constant that broadcasts on W": Row(
        "T[2,6,8,8] x", "c = Conv<pads=[1,1,1,1]>(x, w) y = Mul(c, s)", {**W, "s": n(8)}, ["Conv", "Mul"]
    ),
    "Conv times a constant that broadcasts on H": Row(
        "T[2,6,8,8] x", "c = Conv<pads=[1,1,1,1]>(x, w) y = Mul(c, s)", {**W, "s": n(8, 1)}, ["Conv", "Mul"]
    ),
    "Conv bias input is empty": Row(X, f"c = Conv(x, w, ) {NORM}", {**W, **N8}, ["Conv"]),
    "an initializer is already called w_bias": Row(
        X, f"c0 = Conv(x, w) c = Add(c0, w_bias) {NORM}", {**W, "w_bias": n(8, 1, 1), "c0/bias": n(1), **N8}, ["Conv"]
    ),
    "shared weights": Row(
        X, "c = Conv(x, w) d = Conv(x, w) e = BatchNormalization(c, g, b, m, v) y = Mul(e, d)", {**W, **N8},
        ["Conv", "Conv", "Mul"],
    ),
    "Conv with a computed bias": Row(
        X, "z0 = Constant<value_float=0.0>() z = CastLike(z0, w) sh = Shape<start=0, end=1>(w) "
        f"zz = Expand(z, sh) c = Conv(x, w, zz) {NORM}", {**W, **N8}, ["Conv"],
    ),
    "BN -> Conv": Row(X, "h = BatchNormalization(x, g, b, m, v) y = Conv(h, w)", {**W, **N6}, ["Conv"]),
    "BN -> grouped Conv": Row(
        X, "h = BatchNormalization(x, g, b, m, v) y = Conv<group=3>(h, w)", {"w": n(9, 2, 3, 3), **N6}, ["Conv"]
    ),
    "BN -> padded Conv (scale)": Row(
        X, "h = BatchNormalization(x, g, b, m, v) y = Conv<pads=[1,1,1,1]>(h, w)", {**W, **N6}, ["Add", "Conv"]
    ),
    "BN -> ConvTranspose (scale)": Row(
        X, "h = BatchNormalization(x, g, b, m, v) y = ConvTranspose(h, w)", {"w": n(6, 8, 3, 3), **N6},
        ["Add", "ConvTranspose"],
    ),
    "BN -> Gemm": Row("T[4,6] x", "h = BatchNormalization(x, g, b, m, v) y = Gemm(h, w)", {"w": n(6, 8), **N6}, ["Gemm"]),
    "BN -> MatMul": Row(
        "T[4,6] x", "h = BatchNormalization(x, g, b, m, v) y = MatMul(h, w)", {"w": n(6, 8), **N6}, ["Gemm"]
    ),
    "BN -> Flatten -> Gemm": Row(
        "T[4,6,3,3] x", "h = BatchNormalization(x, g, b, m, v) f = Flatten(h) y = Gemm(f, w)",
        {"w": n(54, 8), **N6}, ["Flatten", "Gemm"],
    ),
    "Keras Conv1D: Unsqueeze, Conv, Squeeze, Transpose": Row(
        "T[2,9,6] x",
        "u = Unsqueeze(x, a1) t1 = Transpose<perm=[0,3,1,2]>(u) c = Conv(t1, w) q = Squeeze(c, a2) "
        "t2 = Transpose<perm=[0,2,1]>(q) p = Mul(t2, s) y = Add(p, t)",
        {"a1": np.array([1]), "a2": np.array([2]), "w": n(8, 6, 1, 3), "s": n(8), "t": n(8)},
        ["Unsqueeze", "Transpose", "Conv", "Squeeze", "Transpose"],
    ),
    "through Concat": Row(
        X, f"a = Conv(x, w) d = Conv(x, w2) c = Concat<axis=1>(a, d) {NORM}",
        {"w": n(5, 6, 3, 3), "w2": n(3, 6, 3, 3), **N8}, ["Conv", "Conv", "Concat"],
    ),
    "through Add(conv, conv)": Row(
        X, f"a = Conv(x, w) d = Conv(x, w2) c = Add(a, d) {NORM}", {**W, "w2": n(8, 6, 3, 3), **N8}, ["Conv"],
    ),
    "through unpadded AveragePool": Row(
        X, f"a = Conv(x, w) c = AveragePool<kernel_shape=[2,2]>(a) {NORM}", {**W, **N8}, ["Conv", "AveragePool"]
    ),
    "through GlobalAveragePool": Row(
        X, f"a = Conv(x, w) c = GlobalAveragePool(a) {NORM}", {**W, **N8}, ["Conv", "GlobalAveragePool"]
    ),
    "through Slice": Row(
        X, f"a = Conv(x, w) c = Slice(a, z0, z8, ax) {NORM}",
        {"w": n(16, 6, 3, 3), "z0": np.array([4]), "z8": np.array([12]), "ax": np.array([1]), **N8}, ["Conv", "Slice"],
    ),
    "through nearest Resize": Row(
        X, f'a = Conv(x, w) c = Resize<mode="nearest">(a, , sc) {NORM}',
        {**W, "sc": np.array([1, 1, 2, 2], np.float32), **N8}, ["Conv", "Resize"],
    ),
    "through linear Resize": Row(
        X, f'a = Conv(x, w) c = Resize<mode="linear">(a, , sc) {NORM}',
        {**W, "sc": np.array([1, 1, 2, 2], np.float32), **N8}, ["Conv", "Resize"],
    ),
    "through DepthToSpace": Row(
        X, f"a = Conv(x, w) c = DepthToSpace<blocksize=2>(a) {NORM}", {"w": n(32, 6, 3, 3), **N8},
        ["Conv", "DepthToSpace"],
    ),
    "through channel-keeping Reshape": Row(
        X, f"a = Conv(x, w) c = Reshape(a, sh) {NORM}", {**W, "sh": np.array([2, 8, 25]), **N8}, ["Conv", "Reshape"]
    ),
    "through Flatten": Row(
        "T[2,6,3,3] x", f"a = Conv(x, w) c = Flatten(a) {NORM}", {**W, **N8}, ["Conv", "Flatten"]
    ),
    "through MaxPool, positive scales": Row(
        X, f"a = Conv(x, w) c = MaxPool<kernel_shape=[2,2], pads=[1,1,0,0]>(a) {NORM}", {**W, **P8}, ["Conv", "MaxPool"]
    ),
    "through ReLU, positive scale": Row(
        X, "a = Conv(x, w) c = Relu(a) y = Mul(c, s)", {**W, "s": np.abs(n(8, 1, 1))}, ["Conv", "Relu"]
    ),
    "through LeakyReLU, positive scale": Row(
        X, "a = Conv(x, w) c = LeakyRelu(a) y = Mul(c, s)", {**W, "s": np.abs(n(8, 1, 1))}, ["Conv", "LeakyRelu"]
    ),
    "Conv -> ReLU -> BN -> Conv": Row(
        X, "a = Conv(x, w) r = Relu(a) h = BatchNormalization(r, g, b, m, v) y = Conv(h, w2)",
        {**W, "w2": n(3, 8, 3, 3), **N8}, ["Conv", "Relu", "Conv"],
    ),
    "run-time Conv bias": Row(X + ", T[8] z", f"c = Conv(x, w, z) {NORM}", {**W, **N8}, ["Mul", "Add", "Conv"]),
    "BN + BN": Row(
        "T[2,8,5,5] x", f"c = BatchNormalization(x, g, b, m, v) {NORM}", N8, [BN]
    ),
    "BN + Mul + Add": Row(
        "T[2,8,5,5] x", "c = BatchNormalization(x, g, b, m, v) p = Mul(c, s) y = Add(p, t)", {**N8, **C8}, [BN]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(ROWS))
def test_pattern(name: str) -> None:
    row = ROWS[name]
    folded = fold(model(row.inputs, row.body, row.arrays), **row.options)
    assert folded.ops == row.left
    assert difference(folded) < row.exact
    again = fold(folded.after)
    assert again.after.SerializeToString() == folded.after.SerializeToString(), again.ops


def test_training_mode_is_refused() -> None:
    """A peer folds it with the moving statistics, silently wrong."""
    body = "c = Conv(x, w) y, mm, vv = BatchNormalization<training_mode=1>(c, g, b, m, v)"
    folded = fold(model(X, body, {**W, **N8}))
    assert folded.ops == ["Conv", BN]
    assert folded.result.decisions[0].reason == "training_mode"


def test_initializer_that_is_also_an_input_stays_overridable() -> None:
    """Peers fold it and so take the caller's ability to override it away."""
    proto = model(X + ", T[8,6,3,3] w", f"c = Conv(x, w) {NORM}", {**W, **N8})
    folded = fold(proto)
    assert folded.ops == ["Conv", BN]
    assert [item.name for item in folded.after.graph.input] == ["x", "w"]
    assert folded.result.decisions[0].reason == "overridable_initializer"


def test_initializer_that_is_also_an_input_is_folded_before_ir_version_4() -> None:
    """There every initializer is listed as an input, and no runtime lets callers override it."""
    folded = fold(model(X, f"c = Conv(x, w) {NORM}", {**W, **N8}, ir_version=3, opset=15))
    assert folded.ops == ["Conv"]
    assert difference(folded) < EXACT
