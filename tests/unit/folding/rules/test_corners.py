"""Corners that a battery of odd graphs found: each was left, wrong or invalid once. Judged in float64 through
the whole way from preparation to cleaning."""

# Rows are tables, and tables read across.
# ruff: noqa: E501
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from folding import export, norms, passes, rules
from folding.options import FoldOptions
from folding.rules.base import FoldResult, SkipReason
from folding.sources.onnx.weights import densify
from tests.support.numbers import running_rng
from tests.unit.folding.rules.models import Folded as Pair
from tests.unit.folding.rules.models import difference, model, norm_arrays

EXACT = 1e-11
N4, N6 = norm_arrays(4), norm_arrays(6)
BN = "BatchNormalization"


def n(*shape: int) -> np.ndarray:
    return running_rng().normal(size=shape)


@dataclass
class Outcome:
    """The artifact of a whole run, and how far it is from the source."""

    ops: list[str]
    result: FoldResult
    error: float


def whole(proto: onnx.ModelProto, **options: object) -> Outcome:
    found = pair(proto, **options)
    return Outcome(found.ops, found.result, difference(found))


def pair(proto: onnx.ModelProto, *, rankless: bool = False, **options: object) -> Pair:
    """Fold as the pipeline does. rankless: the fold is not told the shapes of the interface."""
    before = onnx.ModelProto()
    before.CopyFrom(proto)
    for value in (*proto.graph.input, *proto.graph.output) if rankless else ():
        value.type.tensor_type.ClearField("shape")
    graph, chosen = ir.from_proto(proto), FoldOptions(**options)  # type: ignore[arg-type]
    passes.prepare(graph, chosen)
    result = rules.fold(graph, norms.find(graph), chosen)
    passes.clean(graph, chosen)
    after = ir.to_proto(graph)
    export.check(after, {})
    return Pair(before, after, result, graph, lambda other: pair(other, rankless=rankless, **options))


WHOLE = {
    "a constant branch of a Concat": (
        "T[2,6,5,5] x", "c = Conv(x, w) h = Concat<axis=1>(c, k) y = BatchNormalization(h, g, b, m, v)",
        {"w": n(4, 6, 1, 1), "k": n(2, 2, 5, 5), **N6}, ["Conv", "Concat"],
    ),
    "a class token": (
        "T[2,5,6] x", "c = MatMul(x, w) d = Add(c, a) h = Concat<axis=1>(k, d) i = Mul(h, s) y = Add(i, t)",
        {"w": n(6, 4), "a": n(4), "k": n(2, 1, 4), "s": n(4), "t": n(4)}, ["MatMul", "Add", "Concat"],
    ),
    "a table of three axes": (
        "int64[N,3] x", "c = Gather(w, x) d = Mul(c, s) y = Add(d, t)",
        {"w": n(5, 2, 4), "s": n(4), "t": n(4)}, ["Gather"],
    ),
    "a product with a vector": (
        "T[N,4] x", "c = BatchNormalization(x, g, b, m, v) y = MatMul(c, w)", {"w": n(4), **N4}, ["MatMul", "Add"],
    ),
    "a bias and a map of positions": (
        "T[N,3,4] x", "c = MatMul(x, w) d = Add(c, a) e = Mul(d, s) y = Add(e, p)",
        {"w": n(4, 6), "a": n(6), "s": np.array(0.5), "p": n(3, 6)}, ["MatMul", "Add"],
    ),
    "a map of positions before a norm": (
        "T[N,4,5,5] x", "c = Conv(x, w) d = Add(c, p) y = BatchNormalization(d, g, b, m, v)",
        {"w": n(6, 4, 1, 1), "p": n(6, 5, 5), **N6}, ["Conv", "Add"],
    ),
    "several matrices and one shift": (
        "T[3,9,4] x", "c = Mul(x, s) d = Add(c, t) e = MatMul(d, w) y = Add(e, a)",
        {"s": n(4), "t": n(4), "w": n(3, 4, 6), "a": n(3, 1, 6)}, ["MatMul", "Add"],
    ),
    "a transposed convolution of one tap": (
        "T[N,4,5,5] x", "c = BatchNormalization(x, g, b, m, v) y = ConvTranspose(c, w, a)",
        {"w": n(4, 6, 1, 1), "a": n(6), **N4}, ["ConvTranspose"],
    ),
    "a run-time bias that is a matrix": (
        "T[3,4] x, T[3,6] k", "c = Gemm<beta=0.5>(x, w, k) y = BatchNormalization(c, g, b, m, v)",
        {"w": n(4, 6), **N6}, [BN, "Gemm"],
    ),
    "a run-time bias that is a number": (
        "T[3,4] x, T k", "c = Gemm<beta=0.5>(x, w, k) y = BatchNormalization(c, g, b, m, v)",
        {"w": n(4, 6), **N6}, ["Mul", "Add", "Gemm"],
    ),
    "weights of unit norm, computed in the graph": (
        "T[N,4,5,5] x",
        "i = ReduceSumSquare<keepdims=1>(w, axes) j = Sqrt(i) k = Div(w, j) c = Conv(x, k) y = BatchNormalization(c, g, b, m, v)",
        {"w": n(6, 4, 3, 3), "axes": np.array([1, 2, 3]), **N6}, ["Conv"],
    ),
    "weights with a low-rank update": (
        "T[N,4] x", "i = MatMul(u, d) j = Mul(i, s) k = Add(w, j) c = MatMul(x, k) y = BatchNormalization(c, g, b, m, v)",
        {"w": n(4, 6), "u": n(4, 2), "d": n(2, 6), "s": np.array(0.25), **N6}, ["Gemm"],
    ),
    "masked and padded weights": (
        "T[N,4,5,5] x",
        "i = Where(keep, w, zero) k = Pad(i, pads) c = Conv(x, k) y = BatchNormalization(c, g, b, m, v)",
        {"w": n(6, 4, 1, 1), "keep": running_rng().random((6, 4, 1, 1)) < 0.5, "zero": np.array(0.0),
         "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), **N6}, ["Conv"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(WHOLE))
def test_folded_whole(name: str) -> None:
    inputs, body, arrays, ops = WHOLE[name]
    outcome = whole(model(inputs, body, arrays))
    assert outcome.ops == ops
    assert all(decision.folded for decision in outcome.result.decisions)
    assert outcome.error < EXACT


RANKLESS = {
    "conv": ("c = Conv(x, w) y = BatchNormalization(c, g, b, m, v)", {"w": n(6, 4, 3, 3), **N6}, ["Conv"]),
    "arithmetic": ("c = Conv(x, w) d = Mul(c, s) y = Add(d, s)", {"w": n(6, 4, 3, 3), "s": n(6, 1, 1)}, ["Conv"]),
    "before": ("c = BatchNormalization(x, g, b, m, v) y = Conv(c, w)", {"w": n(6, 4, 3, 3), **N4}, ["Conv"]),
}  # fmt: skip


@pytest.mark.parametrize("name", list(RANKLESS))
def test_inputs_of_unknown_rank(name: str) -> None:
    """The weights tell what the interface does not; the interface goes on to say nothing."""
    body, arrays, ops = RANKLESS[name]
    found = pair(model("T[2,4,5,5] x", body, arrays), rankless=True)
    assert [node.op_type for node in found.after.graph.node] == ops
    assert not found.after.graph.input[0].type.tensor_type.HasField("shape")
    assert difference(found) < EXACT


def test_an_initializer_that_is_also_an_output() -> None:
    body = "c = Conv(x, w) y = BatchNormalization(c, g, b, m, v)"
    proto = model("T[2,4,5,5] x", body, {"w": n(6, 4, 3, 3), **N6})
    proto.graph.output.append(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.DOUBLE, None))
    outcome = whole(proto)
    assert outcome.ops == ["Conv"]
    assert outcome.error < EXACT


def test_a_constant_that_callers_may_override_stays() -> None:
    body = "c = Conv(x, w) h = Concat<axis=1>(c, k) y = BatchNormalization(h, g, b, m, v)"
    proto = model("T[2,6,5,5] x, T[2,2,5,5] k", body, {"w": n(4, 6, 1, 1), "k": n(2, 2, 5, 5), **N6})
    (decision,) = whole(proto).result.decisions
    assert decision.reason is SkipReason.OVERRIDABLE_INITIALIZER


def test_a_quantized_table_keeps_its_shift() -> None:
    body = "q = DequantizeLinear<axis=1>(w, ws) c = Gather(q, x) d = Mul(c, s) y = Add(d, t)"
    arrays = {
        "w": running_rng().integers(-9, 9, (5, 4)).astype(np.int8),
        "ws": np.abs(n(4)),
        "s": n(4),
        "t": n(4),
    }
    outcome = whole(model("int64[3] x", body, arrays, opset=19, dtype="float32"))
    assert outcome.ops == [
        "DequantizeLinear",
        "Gather",
        BN,
    ]  # as one node it is no dearer than the shift alone
    assert outcome.error < 2e-6


def test_linear_interpolation_keeps_the_axes_that_runtimes_can_do() -> None:
    body = 'c = Conv(x, w) i = Resize<mode="linear">(c, none, by) t = Transpose<perm=[2,1,3,0]>(i) y = Identity(t)'
    arrays = {"w": n(6, 4, 1, 1), "by": np.array([1, 1, 2, 2], np.float32), "none": np.zeros(0, np.float32)}
    proto = model("T[1,4,5,5] x", body, arrays, dtype="float32")
    graph = ir.from_proto(proto)
    passes.prepare(graph, FoldOptions())
    passes.clean(graph, FoldOptions())
    assert [node.op_type for node in graph.graph] == ["Conv", "Resize", "Transpose"]


def test_sparse_constants_are_read() -> None:
    sparse = onnx.SparseTensorProto(dims=[2, 3])
    sparse.values.CopyFrom(onnx.numpy_helper.from_array(np.array([1.0, 2.0], np.float32), "s"))
    sparse.indices.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 5])))
    node = onnx.helper.make_node("Constant", [], ["k"], sparse_value=sparse)
    graph = onnx.helper.make_graph([node], "g", [], [])
    proto = onnx.helper.make_model(graph)
    assert densify(proto) == ["k"]
    array = onnx.numpy_helper.to_array(proto.graph.node[0].attribute[0].t)
    np.testing.assert_array_equal(array, [[0, 1, 0], [0, 0, 2]])
