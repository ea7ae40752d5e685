"""Every absorber against its product table, judged in float64: rank x group x bias x padding x direction."""

# Rows are tables, and tables read across.
# ruff: noqa: E501
from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.support.numbers import running_rng
from tests.unit.folding.rules.models import difference, fold, model, norm_arrays

# float64 models: what is left after an exact fold is summation order, far below this.
EXACT = 1e-11


def normal(*shape: int) -> np.ndarray:
    return running_rng().normal(size=shape)


def space(rank: int, size: int = 7) -> str:
    return ",".join([str(size)] * rank)


CONVS = list(
    itertools.product((1, 2, 3), ("1", "2", "depthwise"), (False, True), ("", "same", "dilated", "strided"))
)


@pytest.mark.parametrize(("rank", "group", "bias", "form"), CONVS)
def test_conv_takes_the_norm_behind_it(rank: int, group: str, bias: bool, form: str) -> None:
    ins, outs = 4, 8
    groups = ins if group == "depthwise" else int(group)
    attributes = {
        "": "",
        "same": ', auto_pad="SAME_UPPER"',
        "dilated": f", dilations=[{','.join(['2'] * rank)}]",
        "strided": f", strides=[{','.join(['2'] * rank)}], pads=[{','.join(['1'] * 2 * rank)}]",
    }[form]
    arrays = {"w": normal(outs, ins // groups, *[3] * rank), **norm_arrays(outs)}
    if bias:
        arrays["k"] = normal(outs)
    folded = fold(
        model(
            f"T[2,{ins},{space(rank)}] x",
            f"c = Conv<group={groups}{attributes}>(x, w{', k' if bias else ''}) "
            "y = BatchNormalization(c, g, b, m, v)",
            arrays,
        )
    )
    assert folded.ops == ["Conv"]
    assert difference(folded) < EXACT
    assert folded.result.decisions[0].direction == "into_producer"


@pytest.mark.parametrize(("rank", "group", "bias"), list(itertools.product((1, 2, 3), (1, 2), (False, True))))
def test_conv_takes_the_norm_before_it(rank: int, group: int, bias: bool) -> None:
    arrays = {"w": normal(8, 4 // group, *[3] * rank), **norm_arrays(4)}
    if bias:
        arrays["k"] = normal(8)
    folded = fold(
        model(
            f"T[2,4,{space(rank)}] x",
            f"h = BatchNormalization(x, g, b, m, v) y = Conv<group={group}>(h, w{', k' if bias else ''})",
            arrays,
        )
    )
    assert folded.ops == ["Conv"]
    assert difference(folded) < EXACT
    assert folded.result.decisions[0].direction == "into_consumer"


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("padding", ["pads", "same_upper", "same_lower", "strided", "dilated"])
def test_padded_conv_takes_the_scale_and_leaves_one_add(
    rank: int, group: int, bias: bool, padding: str
) -> None:
    attributes = {
        "pads": f"pads=[{','.join(['1'] * rank + ['2'] * rank)}]",
        "same_upper": 'auto_pad="SAME_UPPER"',
        "same_lower": f'auto_pad="SAME_LOWER", strides=[{",".join(["2"] * rank)}]',
        "strided": f"pads=[{','.join(['1'] * 2 * rank)}], strides=[{','.join(['2'] * rank)}]",
        "dilated": f"pads=[{','.join(['2'] * 2 * rank)}], dilations=[{','.join(['2'] * rank)}]",
    }[padding]
    outs = 2 * group  # fewer channels out than in: the border map is the smaller one in every form
    arrays = {"w": normal(outs, 6 // group, *[3] * rank), **norm_arrays(6)}
    if bias:
        arrays["k"] = normal(outs)
    folded = fold(
        model(
            f"T[2,6,{space(rank)}] x",
            f"h = BatchNormalization(x, g, b, m, v) y = Conv<group={group}, {attributes}>(h, w{', k' if bias else ''})",
            arrays,
        )
    )
    assert sorted(folded.ops) == ["Add", "Conv"]
    assert difference(folded) < EXACT


def test_the_shift_stays_an_add_before_where_the_map_would_be_larger() -> None:
    arrays = {"w": normal(16, 2, 3, 3), **norm_arrays(2)}
    folded = fold(
        model("T[2,2,9,9] x", "h = BatchNormalization(x, g, b, m, v) y = Conv<pads=[1,1,1,1]>(h, w)", arrays)
    )
    assert folded.ops == ["Add", "Conv"]
    assert difference(folded) < EXACT


@pytest.mark.parametrize("direction", ["producer", "consumer"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("form", ["", "strides=[2,2]", "strides=[2,1], pads=[1,0,1,1], dilations=[2,1]"])
@pytest.mark.parametrize("group", [1, 2])
def test_conv_transpose(group: int, form: str, bias: bool, direction: str) -> None:
    ins, outs = 4, 2 if direction == "consumer" else 6
    arrays = {"w": normal(ins, outs // group, 3, 3)}
    if bias:
        arrays["k"] = normal(outs)
    attributes = ", ".join(item for item in (f"group={group}", form) if item)
    call = f"ConvTranspose<{attributes}>"
    third = ", k" if bias else ""
    if direction == "producer":
        arrays |= norm_arrays(outs)
        body = f"c = {call}(x, w{third}) y = BatchNormalization(c, g, b, m, v)"
    else:
        arrays |= norm_arrays(ins)
        body = f"h = BatchNormalization(x, g, b, m, v) y = {call}(h, w{third})"
    folded = fold(model("T[2,4,6,6] x", body, arrays))
    assert "BatchNormalization" not in folded.ops
    assert len(folded.ops) == (1 if direction == "producer" else 2)
    assert difference(folded) < EXACT


# With transA, a norm before the Gemm runs along the rows of A', not along the sum: producer only.
GEMMS = [
    (trans_a, trans_b, c, direction)
    for trans_a, direction in ((0, "producer"), (1, "producer"), (0, "consumer"))
    for trans_b in (0, 1)
    for c in (None, (), (1,), (8,), (1, 8), (4, 8), (4, 1))
]


@pytest.mark.parametrize(("trans_a", "trans_b", "c", "direction"), GEMMS)
def test_gemm(trans_a: int, trans_b: int, c: tuple[int, ...] | None, direction: str) -> None:
    arrays = {"w": normal(8, 6) if trans_b else normal(6, 8)}
    if c is not None:
        arrays["c"] = normal(*c)
    third = "" if c is None else ", c"
    call = f"Gemm<alpha=0.5, beta=1.5, transA={trans_a}, transB={trans_b}>"
    if direction == "producer":
        arrays |= norm_arrays(8)
        body = f"h = {call}(x, w{third}) y = BatchNormalization(h, g, b, m, v)"
    else:
        arrays |= norm_arrays(6)
        body = f"h = BatchNormalization(x, g, b, m, v) y = {call}(h, w{third})"
    folded = fold(model(f"T[{'6,4' if trans_a else '4,6'}] x", body, arrays))
    assert folded.ops == ["Gemm"]
    assert difference(folded) < EXACT


def test_gemm_whose_c_is_switched_off() -> None:
    arrays = {"w": normal(6, 8), "c": normal(8), **norm_arrays(8)}
    folded = fold(
        model("T[4,6] x", "h = Gemm<beta=0.0>(x, w, c) y = BatchNormalization(h, g, b, m, v)", arrays)
    )
    assert folded.ops == ["Gemm"]
    assert difference(folded) < EXACT


def test_gemm_with_weights_on_the_left_takes_a_column_affine() -> None:
    arrays = {"w": normal(4, 6), "c": normal(5), "s": normal(4, 1), "t": normal(4, 1)}
    folded = fold(model("T[6,5] x", "h = Gemm(w, x, c) p = Mul(h, s) y = Add(p, t)", arrays))
    assert folded.ops == ["Gemm"]
    assert difference(folded) < EXACT


MATMULS = list(itertools.product((2, 3, 4), (False, True), ("left", "right"), ("producer", "consumer")))


@pytest.mark.parametrize(("rank", "bias", "side", "direction"), MATMULS)
def test_matmul_of_any_rank(rank: int, bias: bool, side: str, direction: str) -> None:
    """Weights right: channels last. Weights left: channels on the axis before the last."""
    lead = [3, 2][: rank - 2]
    inner = [4, 6] if side == "right" else [6, 4]
    shape = ",".join(str(dim) for dim in [*lead, *inner])
    arrays = {"w": normal(6, 8) if side == "right" else normal(8, 6)}
    size = 8 if direction == "producer" else 6
    column = (lambda n: normal(n)) if side == "right" else (lambda n: normal(n, 1))
    arrays |= {"s": column(size), "t": column(size)}
    product = "MatMul(x, w)" if side == "right" else "MatMul(w, x)"
    if bias:
        arrays["k"] = column(8)
    add = "a = Add(k, h)" if bias else "a = Identity(h)"
    if direction == "producer":
        body = f"h = {product} {add} p = Mul(a, s) y = Add(t, p)"
    else:
        last = "y = Add(k, h)" if bias else "y = Identity(h)"
        body = f"p = Mul(s, x) q = Add(p, t) h = {product.replace('x', 'q')} {last}"
    folded = fold(model(f"T[{shape}] x", body, arrays))
    assert difference(folded) < EXACT
    assert "Mul" not in folded.ops
    assert len([op for op in folded.ops if op != "Identity"]) <= 2


def test_matmul_of_rank_two_becomes_a_gemm() -> None:
    folded = fold(
        model(
            "T[4,6] x",
            "h = MatMul(x, w) y = BatchNormalization(h, g, b, m, v)",
            {"w": normal(6, 8), **norm_arrays(8)},
        )
    )
    assert folded.text == ["y = Gemm(x, w, h/bias)"]
    assert difference(folded) < EXACT


def test_batched_matmul_weights() -> None:
    arrays = {"w": normal(3, 6, 8), **norm_arrays(8)}
    body = "h = MatMul(x, w) t = Transpose<perm=[0,2,1]>(h) y = BatchNormalization(t, g, b, m, v)"
    folded = fold(model("T[3,4,6] x", body, arrays))
    assert folded.ops == ["MatMul", "Add", "Transpose"]
    assert difference(folded) < EXACT


def test_embedding_table_takes_scale_and_shift() -> None:
    body = "e = Gather(w, x) t = Transpose<perm=[0,2,1]>(e) y = BatchNormalization(t, g, b, m, v)"
    folded = fold(model("int64[2,5] x", body, {"w": normal(10, 8), **norm_arrays(8)}))
    assert folded.ops == ["Gather", "Transpose"]
    assert difference(folded) < EXACT


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_input_weights(op: str, gates: int, bias: bool) -> None:
    arrays = {"w": normal(1, gates * 3, 6), "r": normal(1, gates * 3, 3), "s": normal(6), "t": normal(6)}
    if bias:
        arrays["k"] = normal(1, 2 * gates * 3)
    call = f"y, z = {op}<hidden_size=3>(q, w, r{', k' if bias else ''})"
    folded = fold(model("T[5,2,6] x", f"p = Mul(x, s) q = Add(p, t) {call}", arrays))
    assert folded.ops == [op]
    assert difference(folded) < EXACT


NORMS = {
    "LayerNormalization": (
        "T[2,4,8] x",
        "l = LayerNormalization(x, k)",
        "t = Transpose<perm=[0,2,1]>(l)",
        ["k"],
    ),
    "InstanceNormalization": (
        "T[2,8,4,4] x",
        "l = InstanceNormalization(x, k, o)",
        "t = Identity(l)",
        ["k", "o"],
    ),
}


@pytest.mark.parametrize("op", sorted(NORMS))
def test_another_norms_own_scale_and_bias_absorb(op: str) -> None:
    inputs, first, second, names = NORMS[op]
    arrays = {**{name: normal(8) for name in names}, **norm_arrays(8)}
    folded = fold(model(inputs, f"{first} {second} y = BatchNormalization(t, g, b, m, v)", arrays))
    assert op in folded.ops
    assert "BatchNormalization" not in folded.ops
    assert difference(folded) < EXACT


@pytest.mark.parametrize("source", ["input", "computed", "gemm"])
def test_run_time_bias_is_scaled_as_a_vector(source: str) -> None:
    """The activations are left alone: Mul and Add touch C numbers."""
    if source == "gemm":
        inputs, first = "T[4,6] x, T[8] z", "c = Gemm<beta=0.5>(x, w, z)"
        arrays = {"w": normal(6, 8), **norm_arrays(8)}
    else:
        inputs = "T[2,6,5,5] x, T[8] z"
        first = "c = Conv(x, w, z)" if source == "input" else "zz = Tanh(z) c = Conv(x, w, zz)"
        arrays = {"w": normal(8, 6, 3, 3), **norm_arrays(8)}
    folded = fold(model(inputs, f"{first} y = BatchNormalization(c, g, b, m, v)", arrays))
    assert "BatchNormalization" not in folded.ops
    for node in folded.model.graph:
        if node.op_type in ("Mul", "Add"):
            assert node.outputs[0].shape is None or len(node.outputs[0].shape) == 1
    assert difference(folded) < EXACT


def test_raw_export_bias_is_a_constant_expression() -> None:
    """Zeros by Expand(CastLike(0), Shape(w)): constant folded, then folded."""
    body = (
        "z0 = Constant<value_float=0.0>() z = CastLike(z0, w) sh = Shape<start=0, end=1>(w) zz = Expand(z, sh) "
        "c = Conv(x, w, zz) y = BatchNormalization(c, g, b, m, v)"
    )
    folded = fold(model("T[2,6,5,5] x", body, {"w": normal(8, 6, 3, 3), **norm_arrays(8)}))
    assert folded.ops == ["Conv"]
    assert difference(folded) < EXACT


def test_weights_that_are_constant_expressions() -> None:
    body = "w1 = Mul(w0, k) w = Reshape(w1, sh) c = Conv(x, w) y = BatchNormalization(c, g, b, m, v)"
    arrays = {"w0": normal(8, 54), "k": normal(8, 1), "sh": np.array([8, 6, 3, 3]), **norm_arrays(8)}
    folded = fold(model("T[2,6,5,5] x", body, arrays))
    assert folded.ops == ["Conv"]
    assert difference(folded) < EXACT


def test_the_text_before_and_after() -> None:
    """Weights keep their names; a bias that was not there gets one after its node."""
    folded = fold(
        model(
            "T[2,6,5,5] x",
            "c = Conv(x, w) d = BatchNormalization(c, g, b, m, v) y = Relu(d)",
            {"w": normal(8, 6, 3, 3), **norm_arrays(8)},
        )
    )
    assert folded.text == ["d = Conv(x, w, c/bias)", "y = Relu(d)"]
    assert [item.name for item in folded.after.graph.initializer] == ["w", "c/bias"]
