"""One graph for every reason that a norm can stay for; and every reason is explained."""

# Rows are tables, and tables read across.
# ruff: noqa: ISC004
from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from folding import norms, rules
from folding.errors import catalogue
from folding.norms.base import NormHint
from folding.rules.base import Decision, SkipReason
from tests.support.numbers import running_rng
from tests.support.paths import ROOT
from tests.unit.folding.rules.models import difference, fold, model, norm_arrays

X = "T[2,6,5,5] x"
N8, N6 = norm_arrays(8), norm_arrays(6)
NORM = "y = BatchNormalization(c, g, b, m, v)"


def n(*shape: int) -> np.ndarray:
    return running_rng().normal(size=shape)


W = {"w": n(8, 6, 3, 3)}
BATCH = (
    "m = ReduceMean(x, ax) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, ax) e = Add(v, eps) s = Sqrt(e) "
    "h = Div(d, s) p = Mul(h, g) y = Add(p, b)"
)
# reason -> inputs, body, arrays, outputs
ROWS = {
    SkipReason.BATCH_STATISTICS: (
        X, BATCH, {"ax": np.array([0, 2, 3]), "eps": np.array(1e-3), "g": n(6, 1, 1), "b": n(6, 1, 1)}, ""
    ),
    SkipReason.TRAINING_MODE: (
        X, "c = Conv(x, w) y, mm, vv = BatchNormalization<training_mode=1>(c, g, b, m, v)", {**W, **N8}, ""
    ),
    SkipReason.RUNTIME_PARAMETERS: (
        X + ", T[8] g", f"c = Conv(x, w) {NORM}", {**W, **{k: a for k, a in N8.items() if k != "g"}}, ""
    ),
    SkipReason.OVERRIDABLE_INITIALIZER: (X + ", T[8] g", f"c = Conv(x, w) {NORM}", {**W, **N8}, ""),
    SkipReason.NO_LINEAR_NEIGHBOUR: (X, "c = Sigmoid(x) " + NORM, N6, ""),
    SkipReason.SHARED_PRODUCER_OUTPUT: (X, f"c = Conv(x, w) z = Relu(c) {NORM}", {**W, **N8}, "T y, T z"),
    SkipReason.GRAPH_OUTPUT: (X, f"c = Conv(x, w) {NORM}", {**W, **N8}, "T y, T c"),
    SkipReason.RUNTIME_WEIGHTS: (X + ", T[8,6,3,3] w", f"c = Conv(x, w) {NORM}", N8, ""),
    SkipReason.CHANNEL_AXIS_LOST: ("T[2,8,8] x", f"c = MatMul(x, w) {NORM}", {"w": n(8, 8), **N8}, ""),
    SkipReason.NONLINEARITY_BETWEEN: (
        X, f"a = Conv(x, w) c = Relu(a) {NORM}", {**W, **N8, "g": np.abs(N8["g"])}, ""
    ),
    SkipReason.NEGATIVE_SCALE: (
        X, f"a = Conv(x, w) c = MaxPool<kernel_shape=[2,2]>(a) {NORM}", {**W, **N8, "g": -np.abs(N8["g"])}, ""
    ),
    SkipReason.PADDED_SHIFT: (
        X, "h = BatchNormalization(x, g, b, m, v) y = Conv<pads=[1,1,1,1]>(h, w)", {**W, **N6}, ""
    ),
    SkipReason.CONTROL_FLOW_BOUNDARY: (
        X, "tc = Constant<value = int64 {2}>() cc = Constant<value = bool {1}>() y = Loop(tc, cc, x)<body = "
        "lb(int64 it, bool ci, T[2,6,5,5] s) => (bool co, T[2,6,5,5] so) "
        "{co = Identity(ci) so = BatchNormalization(s, g, b, m, v)}>", N6, "T[2,6,5,5] y",
    ),
    SkipReason.UNHEALTHY: (X, f"c = Conv(x, w) {NORM}", {**W, **N8, "v": -np.ones(8)}, ""),
    SkipReason.PER_ACTIVATION: (
        X, "s = Sqrt(e) d = Sub(x, m) h = Div(d, s) y = Add(h, b)",
        {"e": 1 + np.abs(n(6, 5, 5)), "m": n(6, 5, 5), "b": n(6, 5, 5)}, "",
    ),
}  # fmt: skip
# Reasons with a home of their own: types and quantization in test_dtypes, sharing in test_hard_graphs.
ELSEWHERE = {
    SkipReason.WOULD_OVERFLOW, SkipReason.WOULD_UNDERFLOW, SkipReason.QUANTIZED_WEIGHTS,
    SkipReason.QUANTIZED_ACTIVATION, SkipReason.QUANTIZED_NEGATIVE_SCALE, SkipReason.SHARED_WEIGHTS,
    SkipReason.UNKNOWN_SHAPE, SkipReason.NOT_IN_GRAPH,
}  # fmt: skip


def test_every_reason_has_its_graph() -> None:
    assert set(ROWS) | ELSEWHERE == set(SkipReason)


@pytest.mark.parametrize("reason", list(ROWS), ids=str)
def test_reason(reason: SkipReason) -> None:
    inputs, body, arrays, outputs = ROWS[reason]
    folded = fold(model(inputs, body, arrays, outputs=outputs))
    decision: Decision = folded.result.decisions[0]
    assert decision.reason is reason
    assert decision.detail
    if reason is not SkipReason.UNHEALTHY:
        assert difference(folded) < 1e-11


def test_an_infinite_variance_is_no_scale_of_zero() -> None:
    folded = fold(model(X, f"c = Conv(x, w) {NORM}", {**W, **N8, "v": np.full(8, np.inf)}))
    assert folded.ops == ["Conv", "BatchNormalization"]
    assert folded.result.decisions[0].reason is SkipReason.UNHEALTHY


def test_unknown_rank_is_a_refusal() -> None:
    """The input's rank is not declared: nothing says which axis is which."""
    proto = model("T[2,6,5,5] x", "h = BatchNormalization(x, g, b, m, v) y = Relu(h)", N6)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.ClearField("shape")
    graph = ir.from_proto(proto)
    result = rules.fold(graph, norms.find(graph))
    assert result.decisions[0].reason is SkipReason.UNKNOWN_SHAPE


def test_unknown_shapes_do_not_matter_behind_a_convolution() -> None:
    """Rank and channels are in its weights."""
    proto = model(X, f"c = Conv(x, w) {NORM}", {**W, **N8})
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.ClearField("shape")
    graph = ir.from_proto(proto)
    result = rules.fold(graph, norms.find(graph))
    assert result.decisions[0].folded


def test_a_hint_without_a_trace_is_reported() -> None:
    graph = ir.from_proto(model(X, "y = Relu(x)"))
    found = norms.find(
        graph, [NormHint(name="lost/bn", spelling="keras", arrays={"moving_mean": np.zeros(3)})]
    )
    decision = rules.fold(graph, found).decisions[0]
    assert decision.norm.name == "lost/bn"
    assert decision.reason is SkipReason.NOT_IN_GRAPH


@pytest.mark.parametrize("reason", list(SkipReason), ids=str)
def test_every_reason_is_explained(reason: SkipReason) -> None:
    assert all(catalogue.SKIPS[reason.value])
    page = ROOT / "docs" / "reference" / "skip-reasons.md"
    assert reason.value in page.read_text(encoding="utf-8")


def test_a_norm_that_stays_tells_what_was_tried() -> None:
    """Read by a shortcut as well, and a rectifier follows: only its scale could go on."""
    body = "a = Conv(x, w) c = BatchNormalization(a, g, b, m, v) r = Relu(c) d = Conv(r, u) y = Add(d, a)"
    arrays = {**W, **N8, "g": np.abs(N8["g"]) + 0.1, "u": n(8, 8, 1, 1)}
    decision = fold(model(X, body, arrays)).result.decisions[0]
    assert decision.reason is SkipReason.SHARED_PRODUCER_OUTPUT
    assert "tried: its scale alone could go into its consumers" in decision.detail
