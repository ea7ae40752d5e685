"""Our float64 evaluation against ONNX Runtime (float32) and onnx's reference implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from folding.ir.evaluate import registry
from folding.ort import OrtSession
from folding.verify.float64 import Float64UnavailableError, evaluate
from folding.verify.model import load
from tests.unit.folding.verify import nets
from tests.unit.folding.verify.models import array, check, write

X = "g (float[2,4,9,8] x) => (float y) {"
W = {"w": array(6, 4, 3, 3)}
SHAPES = np.array([2, 3], np.int64)

# name -> (body, initializers); x is (2, 4, 9, 8)
ROWS: dict[str, tuple[str, dict[str, np.ndarray]]] = {
    "conv": ("y = Conv(x, w)", W),
    "conv bias stride dilation": (
        "y = Conv<strides=[2,1], dilations=[1,2], pads=[1,0,2,1]>(x, w, b)", W | {"b": array(6)},
    ),
    "conv same upper": ('y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w)', W),
    "conv same lower": ('y = Conv<auto_pad="SAME_LOWER", strides=[2,2]>(x, w)', W),
    "conv valid": ('y = Conv<auto_pad="VALID">(x, w)', W),
    "conv grouped": ("y = Conv<group=2, pads=[1,1,1,1]>(x, w)", {"w": array(6, 2, 3, 3)}),
    "conv depthwise": ("y = Conv<group=4, pads=[1,1,1,1]>(x, w)", {"w": array(4, 1, 3, 3)}),
    "conv depthwise multiplier": ("y = Conv<group=4, pads=[1,1,1,1]>(x, w)", {"w": array(8, 1, 3, 3)}),
    "conv transpose": ("y = ConvTranspose<strides=[2,2]>(x, w)", {"w": array(4, 3, 2, 2)}),
    "conv transpose pads": (
        "y = ConvTranspose<strides=[2,2], pads=[1,0,0,1], output_padding=[1,1]>(x, w, b)",
        {"w": array(4, 3, 3, 3), "b": array(3)},
    ),
    "conv transpose grouped": (
        "y = ConvTranspose<group=2, dilations=[2,1]>(x, w)", {"w": array(4, 3, 3, 2)},
    ),
    "conv transpose shape": (
        "y = ConvTranspose<strides=[2,2], output_shape=[18,16]>(x, w)", {"w": array(4, 3, 3, 3)},
    ),
    "conv transpose same": (
        'y = ConvTranspose<strides=[2,2], auto_pad="SAME_UPPER">(x, w)', {"w": array(4, 3, 3, 3)},
    ),
    "max pool": ("y = MaxPool<kernel_shape=[3,2], strides=[2,1], pads=[1,0,1,1]>(x)", {}),
    "max pool ceil": ("y = MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(x)", {}),
    "average pool": ("y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(x)", {}),
    "average pool with pads": (
        "y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(x)", {},
    ),
    "global pools": ("a = GlobalAveragePool(x) b = GlobalMaxPool(x) y = Add(a, b)", {}),
    "batch norm": (
        "y = BatchNormalization<epsilon=0.01>(x, g, b, m, v)",
        {"g": array(4), "b": array(4, salt=1), "m": array(4, salt=2), "v": np.abs(array(4)) + 0.1},
    ),
    "instance norm": ("y = InstanceNormalization(x, g, b)", {"g": array(4), "b": array(4)}),
    "activations": (
        """a = LeakyRelu<alpha=0.3>(x) b = Elu(x) c = HardSwish(x) d = HardSigmoid(x) e = Softplus(x)
        f = Sigmoid(x) h = Tanh(x) i = Erf(x) j = PRelu(x, s) y = Sum(a, b, c, d, e, f, h, i, j)""",
        {"s": array(4, 1, 1)},
    ),
    "clip": ("y = Clip(x, lo, hi)", {"lo": np.float32(-0.3), "hi": np.float32(0.4)}),
    "softmax": ("y = Softmax<axis=1>(x)", {}),
    "log softmax": ("y = LogSoftmax<axis=-1>(x)", {}),
    "arithmetic": (
        """a = Mul(x, c) b = Div(a, d) e = Sub(b, c) f = Neg(e) h = Abs(f) i = Sqrt(h) j = Exp(f)
        k = Reciprocal(j) y = Max(i, k)""",
        {"c": array(4, 1, 1), "d": np.float32(3)},
    ),
    "shapes": (
        """a = Transpose<perm=[0,2,3,1]>(x) b = Reshape(a, r) c = Unsqueeze(b, ax) d = Squeeze(c, ax)
        e = Flatten<axis=2>(d) y = Concat<axis=0>(e, e)""",
        {"r": np.array([0, -1, 4]), "ax": np.array([1])},
    ),
    "gemm": (
        "f = Flatten<axis=3>(x) y = Gemm<alpha=0.5, beta=2.0, transB=1>(f, w, c)",
        {"w": array(5, 8), "c": array(5)},
    ),
    "matmul": ("y = MatMul(x, w)", {"w": array(8, 3)}),
    "pad": ("y = Pad(x, p, v)", {"p": np.array([0, 0, 1, 2, 0, 0, 0, 1]), "v": np.float32(0.5)}),
    "pad reflect": ('y = Pad<mode="reflect">(x, p)', {"p": np.array([0, 0, 1, 2, 0, 0, 0, 1])}),
    "reductions": (
        "a = ReduceMean<keepdims=1>(x, ax) b = ReduceMax(x) c = ReduceSum(x, ax) y = Sum(a, b, c)",
        {"ax": SHAPES},
    ),
    "resize": ("y = Resize<mode=\"nearest\">(x, , s)", {"s": np.array([1, 1, 2, 2], np.float32)}),
    "depth to space": ("y = DepthToSpace<blocksize=2>(x)", {}),
    "gather": ("y = Gather<axis=1>(x, i)", {"i": np.array([2, 0])}),
    "dropout": ("y = Dropout(x)", {}),
    "where": ("z = Greater(x, c) y = Where(z, x, c)", {"c": array(4, 1, 1)}),
}  # fmt: skip


@pytest.mark.parametrize("name", list(ROWS))
def test_it_agrees_with_the_runtime_and_is_really_float64(name: str, tmp_path: Path) -> None:
    body, tensors = ROWS[name]
    path = write(tmp_path / "m.onnx", f"{X} {body} }}", **tensors)
    feeds = {"x": array(2, 4, 9, 8)}
    mine = evaluate(load(path), feeds)["y"]
    theirs = OrtSession(path).run(feeds)["y"]
    assert mine.dtype == np.float64
    np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-5)


def test_it_is_nearer_than_any_float32(tmp_path: Path) -> None:
    """Against the same sum in exact order: the error is float64's."""
    path = write(tmp_path / "m.onnx", f"{X} y = Conv(x, w) }}", **W)
    x, w = array(2, 4, 9, 8).astype(np.float64), W["w"].astype(np.float64)
    mine = evaluate(load(path), {"x": array(2, 4, 9, 8)})["y"]
    direct = sum(
        np.einsum("nchw,mc->nmhw", x[:, :, i : i + 7, j : j + 6], w[:, :, i, j])
        for i in range(3)
        for j in range(3)
    )
    np.testing.assert_allclose(mine, direct, rtol=1e-12, atol=1e-13)


def test_control_flow_is_refused_and_said(tmp_path: Path) -> None:
    text = """g (float[2,3] x, bool c) => (float[2,3] y) {
        y = If(c) <then_branch = t () => (float[2,3] a) { a = Relu(x) },
                   else_branch = e () => (float[2,3] b) { b = Neg(x) }> }"""
    path = write(tmp_path / "m.onnx", text)
    with pytest.raises(Float64UnavailableError, match="control flow"):
        evaluate(load(path), {"x": array(2, 3), "c": np.array(True)})
    found = check(path, path)
    assert "float64 left out" in found.summary
    assert not any(row.reference == "float64" for row in found.rows)


def test_an_operator_that_stays_in_float32_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {"Relu": lambda view: np.maximum(view.x, 0).astype(np.float32)}
    monkeypatch.setattr(registry, "OPERATORS", registry.OPERATORS | wrong)
    path = write(tmp_path / "m.onnx", "g (float[2] x) => (float[2] y) { y = Relu(x) }")
    with pytest.raises(Float64UnavailableError, match="float32 only"):
        evaluate(load(path), {"x": array(2)})


def test_an_evaluation_that_is_off_is_no_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of our own must not widen the tolerance."""
    wrong = {"Relu": lambda view: np.maximum(view.x, 0) * 1.01}
    monkeypatch.setattr(registry, "OPERATORS", registry.OPERATORS | wrong)
    pair = nets.build("plain", tmp_path, 1)
    found = check(pair.unfolded, pair.folded)
    assert "float64 left out" in found.summary
    assert found.rows[0].outputs[0].tolerance.atol < 1e-3 * found.drift[-1].scale


def test_float16_weights_are_widened_exactly(tmp_path: Path) -> None:
    w = array(3, 2).astype(np.float16)
    path = write(tmp_path / "m.onnx", "g (float16[2,3] x) => (float16[2,2] y) { y = MatMul(x, w) }", w=w)
    x = array(2, 3).astype(np.float16)
    np.testing.assert_allclose(
        evaluate(load(path), {"x": x})["y"], x.astype(float) @ w.astype(float), rtol=1e-15
    )
