"""Affines that get new neighbours while a model is folded move on, and rounding happens once."""

# Rows are tables, and tables read across.
# ruff: noqa: E501
from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from folding import norms, rules
from folding.norms.constants import EXACT
from tests.unit.folding.rules.models import difference, fold, model, norm_arrays

BRANCHES = "a = Conv<pads=[1,1,1,1]>({x}, w1) b = Conv({x}, w2) s = Add(a, b) t = Add(s, {x})"


def arrays(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {"w1": rng.normal(size=(4, 4, 3, 3)), "w2": rng.normal(size=(4, 4, 1, 1)), **norm_arrays(4)}


NEIGHBOURS = {
    "a norm behind merged branches": ("T[1,4,6,6] x", f"{BRANCHES.format(x='x')} y = BatchNormalization(t, g, b0, m, v)"),
    "a scale before merged branches": ("T[1,4,6,6] x", f"p = Mul(x, k) {BRANCHES.format(x='p')} y = Relu(t)"),
    "two norms whose negative scales make a positive one": (
        "T[1,4,6,6] x",
        ("c = Conv(x, w2) p = MaxPool<kernel_shape=[2,2]>(c) "
        "n = BatchNormalization(p, g, b0, m, v) y = BatchNormalization(n, g, b0, m, v)"),
    ),
    "a shift of an Einsum before a convolution": (
        "T[1,4,6,6] x",
        'e = Einsum<equation="abcd,by->aydc">(x, k2) n = BatchNormalization(e, g, b0, m, v) t = Conv(n, w2) y = Relu(t)',
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", NEIGHBOURS)
def test_moves_on(kind: str, rng: np.random.Generator) -> None:
    inputs, body = NEIGHBOURS[kind]
    known = {("b0" if name == "b" else name): array for name, array in arrays(rng).items()}
    known |= {"k": rng.uniform(0.5, 2, (4, 1, 1)), "k2": rng.normal(size=(4, 4))}
    wanted = {name: array for name, array in known.items() if f" {name}" in body or f", {name}" in body}
    folded = fold(model(inputs, body, wanted))
    kinds = {"Conv", "Relu", "Einsum", "MaxPool"}
    assert set(folded.ops) <= kinds, folded.ops
    assert difference(folded) < 1e-11
    assert all(decision.folded for decision in folded.result.decisions)
    again = fold(folded.after)
    assert again.after.SerializeToString() == folded.after.SerializeToString()


def test_is_rounded_once(rng: np.random.Generator) -> None:
    """Merged, then scaled: the weights are the exact ones rounded to float32, to the last bit."""
    known = {name: array.astype(np.float32) for name, array in arrays(rng).items()}
    known["k"] = rng.uniform(0.5, 2, (4, 1, 1)).astype(np.float32)
    body = f"{BRANCHES.format(x='x')} y = Mul(k, t)"
    proto = model("T[N,4,H,W] x", body, {n: known[n] for n in ("w1", "w2", "k")}, dtype="float32")
    graph = ir.from_proto(proto)
    rules.fold(graph, norms.find(graph))
    made = ir.to_proto(graph)
    assert [node.op_type for node in made.graph.node] == ["Conv"]
    exact = known["w1"].astype(np.float64)
    exact[:, :, 1, 1] += known["w2"].astype(np.float64)[:, :, 0, 0] + np.eye(4)
    exact *= known["k"].astype(np.float64).reshape(4, 1, 1, 1)
    stored = {i.name: onnx.numpy_helper.to_array(i) for i in made.graph.initializer}
    assert np.array_equal(stored[made.graph.node[0].input[1]], exact.astype(np.float32))
    kept = [v.const_value for v in graph.graph.initializers.values()]
    assert not any(isinstance(t, ir.Tensor) and EXACT in t.meta for t in kept)


def test_merging_that_leaves_more_nodes_is_left_out(rng: np.random.Generator) -> None:
    """One norm before two others whose channels are another axis: two Mul and two Add would stay."""
    known = norm_arrays(4) | {f"{n}2": a for n, a in norm_arrays(6, 1).items()}
    body = (
        "p = BatchNormalization(x, g, b, m, v) q = Transpose<perm=[0,2,1,3]>(p) "
        "y = BatchNormalization(q, g2, b2, m2, v2) r = Sigmoid(p)"
    )
    folded = fold(model("T[1,4,6,3] x", body, known, outputs="T y, T r"))
    assert folded.ops.count("BatchNormalization") == 2
    assert difference(folded) < 1e-11
