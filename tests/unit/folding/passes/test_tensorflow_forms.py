"""Forms that TensorFlow sources bring: shape arithmetic, convolutions over time, channels-last flattening."""

# ruff: noqa: E501 - graphs are read along their lines

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from folding import passes
from folding.options import FoldOptions
from tests.support.numbers import running_rng
from tests.unit.folding.passes.graphs import assert_same, copy, kinds, model

TO_NCHW, TO_NHWC = "Transpose<perm=[0,3,1,2]>", "Transpose<perm=[0,2,3,1]>"


def floats(*shape: int) -> np.ndarray:
    return running_rng().standard_normal(shape).astype(np.float32)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def cleaned(source: ir.Model) -> ir.Model:
    found = copy(source)
    passes.prepare(found, FoldOptions())
    passes.clean(found, FoldOptions())
    assert_same(source, found)
    return found


@pytest.mark.parametrize(("text", "expected"), [
    ("s = Shape(x) t = Slice(s, one, far) p = ReduceProd<keepdims=1>(t) q = Concat<axis=0>(minus, p) y = Reshape(x, q)", [-1, 96]),
    ("s = Shape(x) n = Gather(s, zero) q = Concat<axis=0>(n, four, minus) y = Reshape(x, q)", [0, 4, -1]),
    ("s = Shape(x) c = Cast<to=6>(s) t = Slice(c, zero, one) d = Cast<to=7>(t) q = Concat<axis=0>(d, four, six, four) y = Reshape(x, q)", [-1, 4, 6, 4]),
    ("s = Shape<start=1, end=3>(x) a = Mul(s, two) b = Sub(a, four) q = Concat<axis=0>(minus, b, six) y = Reshape(x, q)", [-1, 4, 4, 6]),
])  # fmt: skip
def test_shape_arithmetic_ends_in_a_constant(text: str, expected: list[int]) -> None:
    source = model(
        f"main (float[N,4,4,6] x) => (float[N,?{',?' * (len(expected) - 2)}] y) {{ {text} }}",
        zero=ints(0),
        one=ints(1),
        two=ints(2),
        four=ints(4),
        six=ints(6),
        minus=ints(-1),
        far=ints(99),
    )
    found = cleaned(source)
    assert kinds(found) == ["Reshape"]
    operand = found.graph[0].inputs[1]
    assert operand is not None
    assert operand.const_value is not None
    assert operand.const_value.numpy().tolist() == expected


def test_two_unknown_dimensions_stay_computed() -> None:
    source = model("main (float[N,M] x, float[K,L] z) => (float[?,?,?] y) { s = Shape(z) q = Concat<axis=0>(minus, s) "
                   "y = Reshape(x, q) }", minus=ints(-1))  # fmt: skip
    found = copy(source)
    passes.prepare(found, FoldOptions())
    assert "Shape" in kinds(found)


def test_convolution_over_time_is_one_dimensional() -> None:
    source = model(
        f"""main (float[N,9,5] x) => (float[N,?,?] y) {{
        a = Unsqueeze(x, i) b = {TO_NCHW}(a) c = Conv<pads=[0,1,0,1], dilations=[1,1]>(b, w) d = {TO_NHWC}(c) e = Squeeze(d, i)
        f = Relu(e) g = Unsqueeze(f, i) h = {TO_NCHW}(g) k = Conv<strides=[1,2]>(h, v) l = {TO_NHWC}(k) y = Squeeze(l, i) }}""",
        i=ints(1),
        w=floats(6, 5, 1, 3),
        v=floats(7, 6, 1, 3),
    )
    found = cleaned(source)
    assert kinds(found) == ["Transpose", "Conv", "Relu", "Conv", "Transpose"]
    assert found.graph.initializers["w"].shape == (6, 5, 3)


def test_a_grouped_one_over_the_other_axis() -> None:
    source = model(
        """main (float[N,6,9] x) => (float[N,?,?] y) {
        a = Unsqueeze(x, i) c = Conv<group=3, pads=[2,0,1,0]>(a, w, b) y = Squeeze(c, i) }""",
        i=ints(-1),
        w=floats(6, 2, 3, 1),
        b=floats(6),
    )
    assert kinds(cleaned(source)) == ["Conv"]


@pytest.mark.parametrize("attributes", ["pads=[1,1,1,1]", "strides=[2,1]"])
def test_convolutions_that_use_the_added_axis_stay(attributes: str) -> None:
    source = model(
        f"""main (float[N,6,9] x) => (float[N,?,?,?] y) {{
        a = Unsqueeze(x, i) c = Conv<{attributes}>(a, w) y = Relu(c) }}""",
        i=ints(2),
        w=floats(6, 6, 1, 3),
    )
    assert kinds(cleaned(source)) == ["Unsqueeze", "Conv", "Relu"]


@pytest.mark.parametrize("dense", ["Gemm(r, w, b)", "Gemm<transB=1>(r, t, b)", "MatMul(r, w)"])
def test_channels_last_flattening_goes_into_the_weights(dense: str) -> None:
    weight = floats(2 * 3 * 4, 5)
    source = model(
        f"""main (float[N,4,2,3] x) => (float[N,5] y) {{
        a = Relu(x) c = {TO_NHWC}(a) r = Reshape(c, s) y = {dense} }}""",
        s=ints(-1, 24),
        w=weight,
        t=weight.T.copy(),
        b=floats(5),
    )
    assert "Transpose" not in kinds(cleaned(source))


@pytest.mark.parametrize("between", ["Relu(c)", "Add(c, k)"])
def test_arithmetic_in_between_does_not_matter(between: str) -> None:
    source = model(
        f"""main (float[N,4,2,3] x) => (float[N,5] y) {{
        c = {TO_NHWC}(x) a = {between} r = Flatten(a) y = MatMul(r, w) }}""",
        w=floats(24, 5),
        k=floats(4),
    )
    assert "Transpose" not in kinds(cleaned(source))


@pytest.mark.parametrize("dense", ["Gemm(x, w, b)", "Gemm<transB=1>(x, t, b)", "MatMul(x, w)"])
def test_channels_last_unflattening_goes_into_the_weights(dense: str) -> None:
    weight = floats(5, 2 * 3 * 4)
    source = model(
        f"""main (float[N,5] x) => (float[N,4,2,3] y) {{
        a = {dense} r = Reshape(a, s) y = {TO_NCHW}(r) }}""",
        s=ints(-1, 2, 3, 4),
        w=weight,
        t=weight.T.copy(),
        b=floats(24),
    )
    assert "Transpose" not in kinds(cleaned(source))


def test_weights_that_others_read_are_copied_not_changed() -> None:
    source = model(
        f"""main (float[N,4,2,3] x) => (float[N,5] y, float[24,5] z) {{
        c = {TO_NHWC}(x) r = Flatten(c) y = MatMul(r, w) z = Neg(w) }}""",
        w=floats(24, 5),
    )
    found = copy(source)
    passes.prepare(found, FoldOptions())
    passes.clean(found, FoldOptions())
    assert_same(source, found)


def test_a_flattened_value_that_others_read_keeps_its_order() -> None:
    source = model(
        f"""main (float[N,4,2,3] x) => (float[N,5] y, float[N,24] z) {{
        c = {TO_NHWC}(x) r = Flatten(c) y = MatMul(r, w) z = Neg(r) }}""",
        w=floats(24, 5),
    )
    assert "Transpose" in kinds(cleaned(source))
