"""Transpose elimination: fewest Transposes, names and outputs kept, nothing touched without a gain."""

# ruff: noqa: E501 - graphs are read along their lines

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from folding.ir.edit import index_names
from folding.ir.infer_shapes import infer_shapes
from folding.passes.layout import eliminate_transposes
from folding.passes.layout.cut import INFINITE, SINK, SOURCE, Network
from folding.passes.layout.permutation import compose, identity, inverse
from tests.support.numbers import running_rng
from tests.unit.folding.passes.graphs import assert_same, copy, counts, kinds, model

TO_NCHW, TO_NHWC = "Transpose<perm=[0,3,1,2]>", "Transpose<perm=[0,2,3,1]>"
NHWC = "main (float[N,6,6,4] x) => (float[N,?,?,?] y)"


def floats(*shape: int) -> np.ndarray:
    return running_rng().standard_normal(shape).astype(np.float32)


def eliminated(source: ir.Model, expected: dict[str, int]) -> ir.Model:
    found = copy(source)
    index_names(found)
    infer_shapes(found)
    eliminate_transposes(found)
    assert {kind: counts(found)[kind] for kind in expected} == expected
    assert_same(source, found)
    assert not eliminate_transposes(found), "a second run found something"
    return found


def test_constants_on_the_last_axis_move_with_the_values() -> None:
    found = eliminated(model(f"""{NHWC} {{
        a = {TO_NCHW}(x) b = Conv(a, w) c = {TO_NHWC}(b) d = Mul(c, scale) e = Add(shift, d) f = Relu(e)
        g = {TO_NCHW}(f) h = Conv(g, v) y = {TO_NHWC}(h) }}""",
        w=floats(5, 4, 1, 1), scale=floats(5), shift=floats(5), v=floats(3, 5, 1, 1)),
        {"Transpose": 2, "Mul": 1, "Add": 1})  # fmt: skip
    shapes = {name: value.shape for name, value in found.graph.initializers.items()}
    assert shapes["scale"] == (1, 5, 1, 1), "a parameter keeps its name"


def test_a_computed_parameter_is_reshaped() -> None:
    eliminated(model(f"""{NHWC} {{
        a = {TO_NCHW}(x) b = Conv(a, w) c = {TO_NHWC}(b) k = Sqrt(v) d = Div(c, k)
        g = {TO_NCHW}(d) y = Conv(g, u) }}""",
        w=floats(5, 4, 1, 1), v=floats(5) ** 2 + 1, u=floats(3, 5, 1, 1)), {"Transpose": 1, "Reshape": 1})  # fmt: skip


@pytest.mark.parametrize(("middle", "more"), [
    ("d = Concat<axis=3>(c, c)", {}),
    ("d = Concat<axis=-1>(c, c)", {}),
    ("p, q = Split<axis=3, num_outputs=2>(c) d = Add(p, q)", {}),
    ("d = Softmax<axis=-1>(c)", {}),
    ("d = Pad(c, s)", {"s": np.array([0, 1, 0, 2, 0, 0, 3, 0])}),
    ("d = Pad(c, s, , i)", {"s": np.array([1, 2]), "i": np.array([3])}),
    ("d = Slice(c, s, z, i)", {"s": np.array([1]), "z": np.array([4]), "i": np.array([2])}),
    ("d = Slice(c, s, z)", {"s": np.array([0, 1]), "z": np.array([9, 4])}),
    ("d = ReduceMean<keepdims=1>(c, i)", {"i": np.array([1, 2])}),
    ("k = ReduceMax<keepdims=1>(c, i) d = Mul(c, k)", {"i": np.array([3])}),
    ('d = Resize<mode="nearest">(c, , s)', {"s": np.array([1, 2, 3, 1], np.float32)}),
    ('d = Resize<mode="nearest">(c, , , s)', {"s": np.array([2, 12, 6, 4])}),
    ("d = Tile(c, s)", {"s": np.array([1, 1, 2, 3])}),
    ("k = Sigmoid(c) d = Mul(c, k)", {}),
    ("d = PRelu(c, s)", {"s": running_rng().standard_normal((1, 1, 4)).astype(np.float32)}),
    ("k = Cast<to=10>(c) d = Cast<to=1>(k)", {}),
])  # fmt: skip
def test_operators_between_two_transposes(middle: str, more: dict[str, np.ndarray]) -> None:
    """x -> NCHW -> Relu -> NHWC -> operator -> NCHW -> Relu: one Transpose is enough."""
    source = model(f"main (float[2,6,6,4] x) => (float[2,?,?,?] y) {{"
                   f"a = {TO_NCHW}(x) b = GlobalMaxPool(a) b2 = Add(a, b) c = {TO_NHWC}(b2) {middle} "
                   f"e = {TO_NCHW}(d) f = GlobalAveragePool(e) y = Add(e, f) }}", **more)  # fmt: skip
    eliminated(source, {"Transpose": 1})


@pytest.mark.parametrize("end", [
    "y = ReduceMean<keepdims=0>(c, i)",
    "k = ReduceMean<keepdims=1>(c, i) y = Squeeze(k, i)",
    "k = ReduceMean<keepdims=1>(c, i) y = Reshape(k, s)",
    "k = ReduceMean<keepdims=1>(c, i) y = Flatten(k)",
])  # fmt: skip
def test_readers_that_do_not_mind_the_order(end: str) -> None:
    source = model(f"main (float[N,6,6,4] x) => (float[N,4] y) {{ a = {TO_NCHW}(x) b = Conv(a, w) "
                   f"c = {TO_NHWC}(b) {end} }}",
                   w=floats(4, 4, 1, 1), i=np.array([1, 2]), s=np.array([-1, 4]))  # fmt: skip
    eliminated(source, {"Transpose": 1})


def test_a_flatten_that_minds_the_order_keeps_its_transpose() -> None:
    source = model(f"main (float[N,6,6,4] x) => (float[N,?] y) {{ a = {TO_NCHW}(x) b = Conv(a, w) "
                   f"c = {TO_NHWC}(b) y = Flatten(c) }}", w=floats(4, 4, 1, 1))  # fmt: skip
    eliminated(source, {"Transpose": 2})


def test_a_value_needed_in_both_orders_pays_once() -> None:
    """Three NHWC readers of one NCHW value, each before a Flatten that minds: one Transpose for all."""
    source = model(f"""main (float[N,4,6,6] x) => (float[N,?] y, float[N,?] z, float[N,?] v) {{
        a = Conv(x, w) b = {TO_NHWC}(a) c = {TO_NHWC}(a) d = {TO_NHWC}(a)
        e = Relu(b) f = Neg(c) g = Exp(d) y = Flatten(e) z = Flatten(f) v = Flatten(g) }}""",
        w=floats(4, 4, 1, 1))  # fmt: skip
    eliminated(source, {"Transpose": 1})


def test_graph_outputs_keep_order_name_and_symbolic_dimensions() -> None:
    source = model(f"main (float[N,6,6,4] x) => (float[N,6,6,5] y) {{ a = {TO_NCHW}(x) b = Conv(a, w) "
                   f"c = {TO_NHWC}(b) y = Relu(c) }}", w=floats(5, 4, 1, 1))  # fmt: skip
    found = eliminated(source, {"Transpose": 2})
    assert [str(dim) for dim in found.graph.outputs[0].shape or ()] == ["N", "6", "6", "5"]


def test_nothing_to_gain_nothing_done() -> None:
    source = model(f"{NHWC} {{ a = {TO_NCHW}(x) b = Relu(a) y = Conv(b, w) }}", w=floats(5, 4, 1, 1))
    found = copy(source)
    index_names(found)
    infer_shapes(found)
    assert not eliminate_transposes(found)
    assert kinds(found) == kinds(source)


@pytest.mark.parametrize(("axis", "moves"), [(1, True), (1 << 40, False), (4, False), (-5, False)])
def test_an_axis_that_is_none_is_left_alone(axis: int, moves: bool) -> None:
    """A broken model may name any number; the checker tells what is wrong with it, no pass fails."""
    found = copy(model(f"{NHWC} {{ a = {TO_NCHW}(x) b = LogSoftmax<axis=1>(a) y = {TO_NHWC}(b) }}"))
    index_names(found)
    infer_shapes(found)
    softmax = next(node for node in found.graph if node.op_type == "LogSoftmax")
    softmax.attributes["axis"] = ir.AttrInt64("axis", axis)
    assert eliminate_transposes(found) is moves


def test_unknown_ranks_are_left_alone() -> None:
    source = model(f"{NHWC} {{ a = {TO_NCHW}(x) y = Relu(a) }}")
    found = copy(source)
    index_names(found)
    for node in found.graph:
        for value in node.outputs:
            value.shape = None
    assert not eliminate_transposes(found)


def test_permutations() -> None:
    x = running_rng().standard_normal((2, 3, 4, 5))
    p, q = (0, 3, 1, 2), (2, 0, 1, 3)
    np.testing.assert_array_equal(x.transpose(p).transpose(q), x.transpose(compose(p, q)))
    assert compose(p, inverse(p)) == identity(4) == compose(inverse(p), p)


@pytest.mark.parametrize("seed", range(30))
def test_the_cut_is_minimal(seed: int) -> None:
    """Against all 2^6 partitions of a small random network."""
    local = np.random.default_rng(seed)
    network = Network()
    nodes = [SOURCE, SINK, *(network.node() for _ in range(6))]
    edges = [(int(a), int(b), int(local.integers(1, 9)) if local.random() < 0.9 else INFINITE)
             for a, b in local.integers(0, 8, (16, 2)) if a != b]  # fmt: skip
    edges = [edge for edge in edges if (edge[0], edge[1]) != (SOURCE, SINK) or edge[2] < INFINITE]
    for edge in edges:
        network.edge(*edge)

    def cost(side: list[bool]) -> int:
        return sum(c for a, b, c in edges if side[a] and not side[b])

    best = min(cost([True, False, *(bool(mask >> i & 1) for i in range(6))]) for mask in range(64))
    if best < INFINITE:
        assert cost(network.source_side()) == best
    assert len(nodes) == 8
