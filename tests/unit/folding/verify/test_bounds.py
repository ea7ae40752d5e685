"""Bounds of rounding: never exceeded, in any order of summation; a fault of 1e-3 is always above them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from folding.ort import OrtSession
from folding.verify.bounds import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, FOLD, RULES, TF32, merged, propagate
from folding.verify.bounds import linear as linear_family
from folding.verify.bounds.base import Application, Arithmetic, Bounded
from folding.verify.compare.layers import LayerCheck, Layers
from folding.verify.float64 import apply_node, attributes
from folding.verify.model import load
from tests.unit.folding.verify.models import write

# In CI, a few examples, always the same; BNFOLD_BOUND_EXAMPLES=5000 is the long form.
EXAMPLES = int(os.environ.get("BNFOLD_BOUND_EXAMPLES", "40"))
QUICK = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=EXAMPLES < 1000
)
OPSET = 17
DIGITS = {"float32": 24, "TF32": 24, "float16": 11, "bfloat16": 8}  # of results
# One row: operator, attributes, shapes of its operands, and what their elements are.
ROWS: tuple[tuple[str, dict[str, object], tuple[tuple[int, ...], ...], str], ...] = (
    ("Conv", {"pads": [1, 1, 1, 1]}, ((2, 3, 5, 5), (4, 3, 3, 3), (4,)), "signed"),
    ("Conv", {"group": 2, "strides": [2, 2]}, ((1, 4, 6, 6), (4, 2, 3, 3)), "signed"),
    ("ConvTranspose", {"strides": [2, 2]}, ((1, 3, 4, 4), (3, 2, 3, 3), (2,)), "signed"),
    ("Gemm", {"alpha": -0.7, "beta": 1.3, "transB": 1}, ((3, 16), (5, 16), (5,)), "signed"),
    ("MatMul", {}, ((2, 3, 32), (2, 32, 4)), "signed"),
    ("Add", {}, ((3, 4), (4,)), "signed"), ("Sub", {}, ((3, 4), (3, 1)), "signed"),
    ("Mul", {}, ((3, 4), (4,)), "signed"), ("Div", {}, ((3, 4), (3, 4)), "positive"),
    ("Sum", {}, ((3, 4), (3, 4), (3, 4)), "signed"), ("Max", {}, ((3, 4), (4,)), "signed"),
    ("Sqrt", {}, ((3, 4),), "positive"), ("Reciprocal", {}, ((3, 4),), "positive"),
    ("Exp", {}, ((3, 4),), "signed"), ("Log", {}, ((3, 4),), "positive"),
    ("Relu", {}, ((3, 4),), "signed"), ("LeakyRelu", {"alpha": 0.3}, ((3, 4),), "signed"),
    ("PRelu", {}, ((3, 4), (4,)), "signed"), ("Sigmoid", {}, ((3, 4),), "signed"),
    ("Tanh", {}, ((3, 4),), "signed"), ("Erf", {}, ((3, 4),), "signed"), ("Elu", {}, ((3, 4),), "signed"),
    ("Softplus", {}, ((3, 4),), "signed"), ("HardSigmoid", {}, ((3, 4),), "signed"),
    ("HardSwish", {}, ((3, 4),), "signed"), ("Softmax", {"axis": -1}, ((3, 9),), "signed"),
    ("LogSoftmax", {"axis": -1}, ((3, 9),), "signed"),
    ("BatchNormalization", {}, ((2, 3, 4), (3,), (3,), (3,), (3,)), "positive"),
    ("LayerNormalization", {"axis": -1}, ((3, 16), (16,), (16,)), "signed"),
    ("InstanceNormalization", {}, ((2, 3, 8), (3,), (3,)), "signed"),
    ("ReduceMean", {"axes": [1]}, ((3, 20),), "signed"), ("ReduceL2", {"axes": [1]}, ((3, 20),), "signed"),
    ("GlobalAveragePool", {}, ((2, 3, 6, 6),), "signed"),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, ((1, 2, 6, 6),), "signed"),
    ("MaxPool", {"kernel_shape": [2, 2]}, ((1, 2, 6, 6),), "signed"),
    ("Transpose", {"perm": [1, 0]}, ((3, 4),), "signed"), ("Concat", {"axis": 0}, ((3, 4), (2, 4)), "signed"),
)  # fmt: skip


def operands(row: int, seed: int) -> list[np.ndarray]:
    """float32 operands of a row, over several magnitudes."""
    rng = np.random.default_rng([row, seed])
    _, _, shapes, kind = ROWS[row]
    made = [rng.standard_normal(s) * 10.0 ** rng.uniform(-2, 1.5) for s in shapes]
    return [(np.abs(m) + 0.05 if kind == "positive" else m).astype(np.float32) for m in made]


def applied(
    node: onnx.NodeProto, values: Sequence[np.ndarray], errors: Sequence[np.ndarray], arithmetic: Arithmetic
) -> Bounded:
    """Return the node's first result in float64 with its bound."""
    wide = [v.astype(np.float64) for v in values]
    results = apply_node(node, wide, OPSET)
    found = propagate(
        Application(
            node.op_type,
            [Bounded(v, e) for v, e in zip(wide, errors, strict=True)],
            results,
            lambda changed: apply_node(node, list(changed), OPSET),
            attributes(node, OPSET),
            OPSET,
            arithmetic,
            {},
        )
    )
    return found[0]


def node_of(row: int) -> onnx.NodeProto:
    name, given_attributes, shapes, _ = ROWS[row]
    return helper.make_node(name, [f"i{k}" for k in range(len(shapes))], ["y"], **given_attributes)


@QUICK
@given(st.integers(0, len(ROWS) - 1), st.integers(0, 2**31))
def test_a_perturbed_operand_moves_the_result_by_no_more_than_the_bound(row: int, seed: int) -> None:
    node, values = node_of(row), operands(row, seed)
    rng = np.random.default_rng(seed)
    level = 10.0 ** rng.uniform(-9, -2)
    errors = [level * np.abs(v).astype(np.float64) * rng.uniform(0.5, 1, v.shape) for v in values]
    if ROWS[row][0] == "BatchNormalization":  # its parameters are constants, with relative errors only
        errors = [errors[0], *(np.zeros(()) for _ in values[1:])]
    bounded = applied(node, values, errors, FLOAT64)
    for _ in range(4):
        # A thousandth inside: `v + e` is rounded as well.
        moved = [
            v + 0.999 * e * rng.choice((-1.0, 1.0), v.shape) for v, e in zip(values, errors, strict=True)
        ]
        result = apply_node(node, moved, OPSET)[0]
        assert (np.abs(result - bounded.value) <= bounded.full()).all(), ROWS[row]


@QUICK
@given(st.integers(0, len(ROWS) - 1), st.integers(0, 2**31))
def test_the_runtime_stays_within_the_bound_of_its_arithmetic(row: int, seed: int) -> None:
    node, values = node_of(row), operands(row, seed)
    inputs = [
        helper.make_tensor_value_info(f"i{k}", onnx.TensorProto.FLOAT, v.shape) for k, v in enumerate(values)
    ]
    graph = helper.make_graph(
        [node], "g", inputs, [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    computed = OrtSession(model.SerializeToString(), threads=1).run(
        {f"i{k}": v for k, v in enumerate(values)}
    )
    bounded = applied(node, values, [np.zeros(()) for _ in values], FLOAT32)
    assert (np.abs(computed["y"] - bounded.value) <= bounded.full()).all(), ROWS[row]


@QUICK
@given(
    st.integers(1, 300), st.integers(0, 2**31), st.sampled_from(["float32", "TF32", "float16", "bfloat16"])
)
def test_any_order_of_summation_stays_within_the_bound(terms: int, seed: int, name: str) -> None:
    """Products and partial sums rounded one by one, in a random order, in each arithmetic."""
    arithmetic = {a.name: a for a in (FLOAT32, TF32, FLOAT16, BFLOAT16)}[name]
    rng = np.random.default_rng(seed)
    digits = DIGITS[name]
    x, w = rng.standard_normal(terms), rng.standard_normal(terms)
    x, w = rounded_to(x, digits), rounded_to(w, digits)
    shorten = rounded_to if seed % 2 else cut_to
    factors = (shorten(x, 11), shorten(w, 11)) if name == "TF32" else (x, w)
    parts = list(rounded_to(factors[0] * factors[1], digits))
    while len(parts) > 1:  # a random binary tree
        i = int(rng.integers(len(parts) - 1))
        parts[i : i + 2] = [float(rounded_to(np.asarray(parts[i] + parts[i + 1]), digits))]
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    zero = np.zeros(())
    bounded = applied(node, [x.reshape(1, -1), w.reshape(-1, 1)], [zero, zero], arithmetic)
    assert abs(parts[0] - bounded.value[0, 0]) <= bounded.full()[0, 0]


def rounded_to(values: np.ndarray, digits: int) -> np.ndarray:
    """Round to a number of binary digits, ties to even."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(np.ldexp(mantissa, digits)), exponent - digits)


def cut_to(values: np.ndarray, digits: int) -> np.ndarray:
    """Keep a number of binary digits."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.trunc(np.ldexp(mantissa, digits)), exponent - digits)


@QUICK
@given(st.integers(1, 64), st.integers(0, 2**31))
def test_a_fault_of_a_hundredth_is_beyond_the_bound_of_tf32(terms: int, seed: int) -> None:
    """In the largest of 64 results, where the bound is smallest beside the value."""
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal((64, terms)), rng.standard_normal((terms, 1))
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    right = applied(node, [x, w], [np.zeros(())] * 2, TF32)
    moved = right.value * 1.01
    assert (np.abs(moved - right.value) > right.full()).any()


NETWORK = """g (float[N,C,8,8] x) => (float[N,M,8,8] y) {
    c = Conv<pads=[1,1,1,1]>(x, w) n = BatchNormalization<epsilon=0.001>(c, g, b, m, v) r = Relu(n)
    y = Conv<pads=[1,1,1,1]>(r, k) }"""
FOLDED = """g (float[N,C,8,8] x) => (float[N,M,8,8] y) {
    n = Conv<pads=[1,1,1,1]>(x, w, h) r = Relu(n) y = Conv<pads=[1,1,1,1]>(r, k) }"""


def judged(folder: Path, seed: int, gain: float) -> LayerCheck:
    """A random small network against its fold, one channel of which is off by `gain`."""
    rng = np.random.default_rng(seed)
    c, m = int(rng.integers(1, 5)), int(rng.integers(1, 9))

    def draw(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * 10.0 ** rng.uniform(-1, 1)).astype(np.float32)

    w, k, g, b, mean = draw(m, c, 3, 3), draw(m, m, 3, 3), np.abs(draw(m)) + 0.1, draw(m), draw(m)
    v = (np.abs(draw(m)) + 0.01).astype(np.float32)
    scale = g.astype(float) / np.sqrt(v.astype(float) + float(np.float32(0.001)))
    scale, shift = scale * np.where(np.arange(m) == seed % m, gain, 1.0), b - mean * scale
    text = {"N": "1", "C": str(c), "M": str(m)}
    forms = [form.replace("N,", "1,").replace("C,", text["C"] + ",").replace("M,", text["M"] + ",")
             for form in (NETWORK, FOLDED)]  # fmt: skip
    source = write(folder / "a.onnx", forms[0], w=w, k=k, g=g.astype("f"), b=b, m=mean, v=v)
    folded = (w * scale[:, None, None, None]).astype("f")
    artifact = write(folder / "b.onnx", forms[1], w=folded, h=shift.astype("f"), k=k)
    feeds = {"x": rng.standard_normal((1, c, 8, 8)).astype(np.float32)}
    return Layers(load(source), load(artifact), ("n",), feeds, arithmetic=FLOAT32).check(rng, [])


@settings(QUICK, max_examples=max(10, EXAMPLES // 4))
@given(seed=st.integers(0, 2**31))
def test_a_correct_fold_holds_and_a_fault_of_a_thousandth_is_seen(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("bounds")
    right = judged(folder, seed, 1.0)
    assert not right.failed, (right.fold, right.runtime)
    assert all(segment.passed for segment in right.fold.values())
    wrong = judged(folder, seed, 1.001)
    assert wrong.first_divergence == "n"


def test_every_operator_has_one_rule() -> None:
    assert len(RULES) > 80
    with pytest.raises(ValueError, match="two bounds"):
        merged((linear_family, linear_family))


def test_an_operator_without_a_rule_has_no_bound() -> None:
    node = helper.make_node("Acosh", ["i0"], ["y"])
    assert np.isinf(applied(node, [np.full(3, 2.0)], [np.zeros(())], FOLD).full()).all()


@pytest.mark.parametrize(("arithmetic", "beyond"), [(FLOAT32, 1e39), (FLOAT16, 7e4), (BFLOAT16, 1e39)])
def test_nothing_is_known_of_what_may_leave_the_range(arithmetic: Arithmetic, beyond: float) -> None:
    """The runtime answers infinity there; beside it, everything is as bounded as ever."""
    node = helper.make_node("Mul", ["a", "b"], ["y"])
    found = applied(node, [np.array([beyond, 3.0]), np.array([1.0, 2.0])], [np.zeros(())] * 2, arithmetic)
    assert np.isinf(found.full()).tolist() == [True, False]
    assert not np.isinf(
        applied(node, [np.array([beyond]), np.ones(1)], [np.zeros(())] * 2, FOLD).full()
    ).any()


def test_a_decision_that_rounding_may_turn_is_undecided() -> None:
    node = helper.make_node("Greater", ["a", "b"], ["y"])
    values, errors = [np.array([1.0, 2.0]), np.array([1.0 + 1e-9, 1.0])], [np.full(2, 1e-6), np.zeros(())]
    assert applied(node, values, errors, FOLD).full().tolist() == [np.inf, 0.0]


@pytest.mark.parametrize("shape", [(10, 8), (10, 10), (10, 3, 3, 2)])
def test_scales_along_any_axis_bound_a_dequantized_constant(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    node = helper.make_node("DequantizeLinear", ["x", "s", "z"], ["y"], axis=0)
    stored = rng.integers(-128, 128, shape).astype(np.int8)
    scale, zero = rng.uniform(0.01, 1, shape[0]).astype(np.float32), np.zeros(shape[0], np.int8)
    wide = [stored, scale.astype(np.float64), zero]
    results = apply_node(node, wide, OPSET)
    bounded = propagate(
        Application("DequantizeLinear", [Bounded(v) for v in wide], results,
                    lambda changed: apply_node(node, list(changed), OPSET), attributes(node, OPSET), OPSET,
                    FLOAT32, {})
    )[0]  # fmt: skip
    float32 = (stored - zero.reshape(-1, *[1] * (len(shape) - 1))) * scale.reshape(
        -1, *[1] * (len(shape) - 1)
    )
    assert bounded.full().shape == shape
    assert (np.abs(float32.astype(np.float32) - bounded.value) <= bounded.full()).all()


@QUICK
@given(st.integers(0, 2**31), st.sampled_from(["none", "add", "mul", "max", "min"]))
def test_reduced_updates_stay_within_the_bound_in_any_order(seed: int, reduction: str) -> None:
    rng = np.random.default_rng(seed)
    data, updates = (rng.standard_normal(n).astype(np.float32) for n in (4, 9))
    where = rng.integers(0, 4, (9, 1)) if reduction != "none" else rng.permutation(9)[:, None] % 9
    data = data if reduction != "none" else rng.standard_normal(9).astype(np.float32)
    node = helper.make_node("ScatterND", ["i0", "i1", "i2"], ["y"], reduction=reduction)
    values = [data, where, updates]
    results = apply_node(node, [data.astype(float), where, updates.astype(float)], 18)
    found = propagate(
        Application(
            "ScatterND", [Bounded(data.astype(float)), Bounded(where), Bounded(updates.astype(float))],
            results, lambda changed: apply_node(node, list(changed), 18), attributes(node, 18), 18,
            FLOAT32, {},
        )
    )[0]  # fmt: skip
    mine = data.copy()
    steps = {"none": lambda _, u: u, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
    for i in rng.permutation(len(updates)):
        mine[values[1][i, 0]] = steps[reduction](mine[values[1][i, 0]], updates[i])
    assert np.isfinite(found.full()).all()
    assert (np.abs(mine - found.value) <= found.full()).all()


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0, 100.0])
def test_a_sixth_that_was_written_out_in_float32_is_within_the_bound_of_hard_swish(scale: float) -> None:
    """TensorFlow turns `/ 6.0` into `* 0.16666667`; the operator multiplies by 1/6."""
    x = np.linspace(-scale, scale, 4001, dtype=np.float32)
    wide = x.astype(np.float64)
    written = wide * np.clip(wide + 3, 0, 6) * np.float64(np.float32(1 / 6))
    found = applied(helper.make_node("HardSwish", ["x"], ["y"]), [x], [np.zeros(())], FOLD)
    difference, bound = np.abs(written - found.value), np.broadcast_to(found.full(), x.shape)
    assert (difference <= bound).all()
    assert difference.max() > 0.01 * bound.max()
    assert (np.abs(found.value * 1e-6)[difference > 0] > bound[difference > 0]).any()
