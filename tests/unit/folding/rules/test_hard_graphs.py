"""Bodies, functions, shared and overridable weights, names, odd inputs."""

# Rows are tables, and tables read across.
# ruff: noqa: E501
from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from folding import norms, rules
from folding.options import FoldOptions
from folding.rules.base import SkipReason
from folding.rules.writing import write
from tests.support.numbers import running_rng
from tests.unit.folding.rules.models import difference, fold, model, norm_arrays

EXACT = 1e-11
BN = "BatchNormalization"
X = "T[2,6,5,5] x"


def n(*shape: int) -> np.ndarray:
    return running_rng().normal(size=shape)


W, N8, N6 = {"w": n(8, 6, 3, 3)}, norm_arrays(8), norm_arrays(6)


def test_branch_with_outer_scope_parameters() -> None:
    body = (
        "c = Conv(x, w) y = If(cond)<"
        "then_branch = tb() => (T[2,8,3,3] a) {d = Conv(x, w) a = BatchNormalization(d, g, b, m, v)}, "
        "else_branch = eb() => (T[2,8,3,3] e) {e = Identity(c)}>"
    )
    folded = fold(model(f"{X}, bool cond", body, {**W, **N8}))
    assert BN not in folded.ops
    assert difference(folded, 0) < EXACT
    assert difference(folded, 1) < EXACT


def test_norm_behind_an_if_goes_into_both_branches() -> None:
    body = (
        "c = If(cond)<then_branch = tb() => (T[2,8,3,3] a) {a = Conv(x, w)}, "
        "else_branch = eb() => (T[2,8,3,3] e) {f = Conv(x, w2) e = Identity(f)}> y = BatchNormalization(c, g, b, m, v)"
    )
    folded = fold(model(f"{X}, bool cond", body, {**W, "w2": n(8, 6, 3, 3), **N8}))
    assert BN not in folded.ops
    for seed in range(4):  # both conditions occur
        assert difference(folded, seed) < EXACT


def test_norm_behind_an_if_that_hands_on_an_outer_value_stays() -> None:
    body = (
        "c = Conv(x, w) h = If(cond)<then_branch = tb() => (T[2,8,3,3] a) {a = Conv(x, w2)}, "
        "else_branch = eb() => (T[2,8,3,3] e) {e = Sigmoid(c)}> y = BatchNormalization(h, g, b, m, v)"
    )
    folded = fold(model(f"{X}, bool cond", body, {**W, "w2": n(8, 6, 3, 3), **N8}))
    assert BN in folded.ops
    assert difference(folded) < EXACT


LOOP = "tc = Constant<value = int64 {3}>() cc = Constant<value = bool {1}>() "


def test_loop_body_with_outer_scope_parameters() -> None:
    body = LOOP + (
        "y = Loop(tc, cc, x)<body = lb(int64 it, bool ci, T[2,6,5,5] s) => (bool co, T[2,6,5,5] so) "
        "{co = Identity(ci) c = Conv<pads=[1,1,1,1]>(s, w) so = BatchNormalization(c, g, b, m, v)}>"
    )
    folded = fold(model(X, body, {"w": 0.1 * n(6, 6, 3, 3), **N6}, outputs="T[2,6,5,5] y"))
    assert BN not in folded.ops
    assert difference(folded) < EXACT


def test_norm_on_a_loop_carried_value_stays() -> None:
    body = LOOP + (
        "y = Loop(tc, cc, x)<body = lb(int64 it, bool ci, T[2,6,5,5] s) => (bool co, T[2,6,5,5] so) "
        "{co = Identity(ci) so = BatchNormalization(s, g, b, m, v)}>"
    )
    folded = fold(model(X, body, N6, outputs="T[2,6,5,5] y"))
    assert folded.ops.count(BN) == 1
    assert folded.result.decisions[0].reason is SkipReason.CONTROL_FLOW_BOUNDARY


def test_conv_outside_and_norm_inside_a_loop_body_of_which_it_is_the_only_reader() -> None:
    body = LOOP + (
        "c = Conv<pads=[1,1,1,1]>(x, w) y = Loop(tc, cc, x)<body = lb(int64 it, bool ci, T[2,6,5,5] s) => "
        "(bool co, T[2,6,5,5] so) {co = Identity(ci) d = BatchNormalization(c, g, b, m, v) so = Add(s, d)}>"
    )
    folded = fold(model(X, body, {"w": n(6, 6, 3, 3), **N6}, outputs="T[2,6,5,5] y"))
    assert BN not in folded.ops
    assert difference(folded) < EXACT


def test_model_local_function_called_twice() -> None:
    """Each call has its own weights, so each gets its own fold."""
    text = """<ir_version: 9, opset_import: ["": 18, "local": 1]>
    g (double[2,6,5,5] x) => (double[2,6,5,5] y) { h = local.block(x, w, g, b, m, v) y = local.block(h, w2, g, b, m, v) }
    <opset_import: ["": 18], domain: "local">
    block (x, w, g, b, m, v) => (y) { c = Conv<pads=[1,1,1,1]>(x, w) y = BatchNormalization(c, g, b, m, v) }"""
    proto = onnx.parser.parse_model(text)
    for name, array in {"w": n(6, 6, 3, 3), "w2": n(6, 6, 3, 3), **N6}.items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    folded = fold(proto)
    assert folded.ops == ["Conv", "Conv"]
    assert difference(folded) < EXACT
    assert len(folded.result.decisions) == 2


def test_shared_weights_that_agree_are_folded_once() -> None:
    body = (
        "c = Conv(x, w) y = BatchNormalization(c, g, b, m, v) "
        "d = Conv<strides=[2,2]>(x, w) z = BatchNormalization(d, g, b, m, v)"
    )
    folded = fold(model(X, body, {**W, **N8}, outputs="T y, T z"))
    assert folded.ops == ["Conv", "Conv"]
    weights = [item for item in folded.after.graph.initializer if len(item.dims) == 4]
    assert len(weights) == 1
    assert difference(folded) < EXACT


def test_shared_weights_that_disagree_are_copied() -> None:
    body = "c = Conv(x, w) y = BatchNormalization(c, g, b, m, v) d = Conv<strides=[2,2]>(x, w) p = Mul(d, s) z = Relu(p)"
    folded = fold(model(X, body, {**W, **N8, "s": n(8, 1, 1)}, outputs="T y, T z"))
    assert folded.ops == ["Conv", "Conv", "Relu"]
    assert difference(folded) < EXACT


def test_large_shared_weights_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "COPY_ALWAYS", 0)
    body = "c = Conv(x, w) y = BatchNormalization(c, g, b, m, v) z = Conv(x, w)"
    folded = fold(model(X, body, {**W, **N8}, outputs="T y, T z"))
    assert folded.ops == ["Conv", BN, "Conv"]
    assert folded.result.decisions[0].reason is SkipReason.SHARED_WEIGHTS
    assert difference(folded) < EXACT


def test_shared_bias_and_shared_statistics() -> None:
    body = (
        "c = Conv(x, w, k) d = Conv(x, w2, k) p = BatchNormalization(c, g, b, m, v) "
        "q = BatchNormalization(d, k, b, m, v) y = Max(p, q)"
    )
    folded = fold(model(X, body, {**W, "w2": n(8, 6, 3, 3), "k": n(8), **N8}))
    assert folded.ops == ["Conv", "Conv", "Max"]
    assert difference(folded) < EXACT


def test_names_that_are_taken() -> None:
    """`c/bias`, `c/bias_1` and the like belong to the user already."""
    body = "c = Conv(x, w) d = BatchNormalization(c, g, b, m, v) e = Mul(d, c/bias) y = Add(e, c/bias_1)".replace(
        "c/bias_1", "taken_1"
    ).replace("c/bias", "taken")
    proto = model(X, body, {**W, **N8, "taken": n(8, 1, 3), "taken_1": n(8, 3, 1)})
    for node in proto.graph.node:
        node.input[:] = [{"taken": "c/bias", "taken_1": "c/bias_1"}.get(item, item) for item in node.input]
    for item in proto.graph.initializer:
        item.name = {"taken": "c/bias", "taken_1": "c/bias_1"}.get(item.name, item.name)
    folded = fold(proto)
    assert folded.ops == ["Conv", "Mul", "Add"]
    assert difference(folded) < EXACT


def test_outputs_keep_names_order_and_shapes() -> None:
    """The norm's output is the graph's; so is an inner value behind it; the batch is symbolic."""
    body = "c = Conv(x, w) y = BatchNormalization(c, g, b, m, v) z = Relu(y)"
    proto = model("T[batch,6,5,5] x", body, {**W, **N8}, outputs="T z, T y")
    folded = fold(proto)
    assert folded.ops == ["Conv", "Relu"]
    assert [item.name for item in folded.after.graph.output] == ["z", "y"]
    assert folded.after.graph.output[1].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert difference(folded) < EXACT


def test_norm_between_input_and_output_with_nothing_to_do() -> None:
    """Scale 1 and shift 0: the norm goes, an Identity carries the output's name."""
    arrays = {"g": np.ones(6), "b": np.zeros(6), "m": np.zeros(6), "v": np.ones(6)}
    folded = fold(model(X, "y = BatchNormalization<epsilon=0.0>(x, g, b, m, v)", arrays))
    assert folded.text == ["y = Identity(x)"]
    assert folded.result.decisions[0].direction == "removed"


def test_freeze_inputs_takes_them_off_the_interface() -> None:
    proto = model(f"{X}, T[8,6,3,3] w", "c = Conv(x, w) y = BatchNormalization(c, g, b, m, v)", {**W, **N8})
    graph = ir.from_proto(proto)
    options = FoldOptions(freeze_inputs=True)
    result = rules.fold(graph, norms.find(graph, freeze_inputs=True), options)
    assert result.decisions[0].folded
    assert [value.name for value in graph.graph.inputs] == ["x"]


@pytest.mark.parametrize("opset", [15, 16, 17, 18, 19, 20, 21, 22, 23])
def test_every_opset_that_the_judge_knows(opset: int) -> None:
    folded = fold(model(X, "c = Conv(x, w) y = BatchNormalization(c, g, b, m, v)", {**W, **N8}, opset=opset))
    assert folded.ops == ["Conv"]
    assert difference(folded) < EXACT


@pytest.mark.parametrize("opset", [1, 6, 7, 8, 9, 13, 14])
def test_every_older_opset(opset: int) -> None:
    """onnx's evaluator starts later; the weights are compared with the formula instead."""
    proto = model(
        X,
        "c = Conv(x, w) y = BatchNormalization(c, g, b, m, v)",
        {**W, **N8},
        outputs="T[2,8,3,3] y",
        opset=opset,
        ir_version=4,
    )
    if opset < 9:
        proto.graph.node[1].attribute.append(onnx.helper.make_attribute("spatial", 1))
    if opset < 7:
        proto.graph.node[1].attribute.append(onnx.helper.make_attribute("is_test", 1))
    if opset < 6:
        proto.graph.node[1].attribute.append(onnx.helper.make_attribute("consumed_inputs", [0, 0, 0, 1, 1]))
    folded = fold(proto)
    assert folded.ops == ["Conv"]
    held = {item.name: numpy_helper.to_array(item) for item in folded.after.graph.initializer}
    scale = N8["g"] / np.sqrt(N8["v"] + float(np.float32(1e-5)))
    np.testing.assert_allclose(held["w"], W["w"] * scale[:, None, None, None], rtol=1e-12)
    np.testing.assert_allclose(held["c/bias"], N8["b"] - N8["m"] * scale, rtol=1e-12)


def test_the_same_model_gives_the_same_bytes() -> None:
    body = "c = Conv(x, w) d = BatchNormalization(c, g, b, m, v) r = Relu(d) y = Mul(r, s)"
    proto = model(X, body, {**W, **N8, "s": n(8, 1, 1)})
    assert len({fold(proto).after.SerializeToString() for _ in range(3)}) == 1


def test_one_norm_for_two_towers() -> None:
    """Shared statistics, one convolution each: both fold, under one name."""
    body = (
        "c = Conv(x, w) d = Conv(z, w) p = BatchNormalization(c, g, b, m, v) q = BatchNormalization(d, g, b, m, v) "
        "y = Sub(p, q)"
    )
    folded = fold(model(f"{X}, T[2,6,5,5] z", body, {**W, **N8}))
    assert BN not in folded.ops
    assert len([item for item in folded.after.graph.initializer if len(item.dims) == 4]) == 1
    assert difference(folded) < EXACT
