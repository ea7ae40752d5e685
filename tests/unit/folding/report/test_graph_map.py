"""Alignment of the graphs before and after: rows never cross, nothing is lost, sites point to the right nodes."""

# ruff: noqa: E501  rows of data

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import folding
from folding.options import FoldOptions
from folding.report import GraphMap
from folding.report.graph_align import Look, align, interleave


def chain(blocks: int, path: Path) -> Path:
    """conv, batch norm, relu, `blocks` times."""
    rng = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for i in range(blocks):
        kernel = rng.normal(size=(4, 4, 1, 1)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{i}"))
        for role in "gbmv":
            array = rng.uniform(0.5, 1.5, size=4).astype(np.float32)
            weights.append(numpy_helper.from_array(array, f"{role}{i}"))
        nodes += [
            helper.make_node("Conv", [value, f"w{i}"], [f"c{i}"], name=f"conv{i}"),
            helper.make_node(
                "BatchNormalization", [f"c{i}", *(f"{r}{i}" for r in "gbmv")], [f"n{i}"], name=f"bn{i}"
            ),
            helper.make_node("Relu", [f"n{i}"], [f"r{i}"], name=f"relu{i}"),
        ]
        value = f"r{i}"
    shape = ["N", 4, 5, 5]
    graph = helper.make_graph(
        nodes, "chain",
        [helper.make_tensor_value_info("x", 1, shape)], [helper.make_tensor_value_info(value, 1, shape)], weights,
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def folded(blocks: int, tmp_path: Path) -> GraphMap:
    """The map of such a chain after a fold."""
    report = folding.fold(
        chain(blocks, tmp_path / "in.onnx"), tmp_path / "out.onnx", FoldOptions(verify=False)
    )
    assert report.graph_map is not None
    return report.graph_map


def check(rows: list[tuple[int, int]], left: int, right: int) -> None:
    """Each node once, in order, on its side."""
    assert [a for a, _ in rows if a >= 0] == list(range(left))
    assert [b for _, b in rows if b >= 0] == list(range(right))


def test_folded_batch_norms_stand_beside_nothing_and_point_to_their_conv(tmp_path: Path) -> None:
    found = folded(3, tmp_path)
    check(found.rows, len(found.before.names), len(found.after.names))
    assert [name for name in found.after.names if name.startswith("bn")] == []
    for site in found.sites:
        (node,) = site.before
        (target,) = site.after
        assert found.before.names[node] == site.name
        assert found.op_types[found.before.ops[node]] == "BatchNormalization"
        assert (node, -1) in found.rows
        assert found.after.names[target] == site.name.replace("bn", "conv")
        assert len(site.scale) == len(site.shift) == 4
    names = {(found.before.names[a], found.after.names[b]) for a, b in found.rows if a >= 0 and b >= 0}
    assert names >= {("relu0", "relu0"), ("conv2", "conv2"), ("x", "x")}


def test_edges_lead_to_producers(tmp_path: Path) -> None:
    found = folded(2, tmp_path)
    for side in (found.before, found.after):
        assert len(side.names) == len(side.ops) == len(side.shapes) == len(side.inputs)
        for node, sources in enumerate(side.inputs):
            assert all(source < node for source in sources)
    conv, relu = found.after.names.index("conv1"), found.after.names.index("relu0")
    assert found.after.inputs[conv] == [relu]


def test_a_large_chain_is_aligned_in_linear_time(tmp_path: Path) -> None:
    found = folded(400, tmp_path)
    check(found.rows, len(found.before.names), len(found.after.names))
    assert all(len(site.after) == 1 for site in found.sites)


ops = st.lists(st.sampled_from(["Conv", "Relu", "Add"]), max_size=14)


@given(ops, ops, st.booleans())
def test_any_two_graphs_align_without_crossing(left: list[str], right: list[str], named: bool) -> None:
    def look(side: list[str], offset: int) -> Look:
        names = [f"n{i + offset}" if named else "" for i in range(len(side))]
        return Look(
            names=names, ops=side, outputs=[""] * len(side), shapes=[""] * len(side), inputs=[[]] * len(side)
        )

    before, after = look(left, 0), look(right, 2)
    pairs = align(before, after)
    assert pairs == sorted(pairs)
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
    assert all(left[a] == right[b] for a, b in pairs)
    check(interleave(pairs, len(left), len(right)), len(left), len(right))


@pytest.mark.parametrize("count", [0, 1, 7])
def test_equal_graphs_are_equal_everywhere(count: int) -> None:
    side = Look(
        names=[f"n{i}" for i in range(count)], ops=["Relu"] * count, outputs=[f"o{i}" for i in range(count)],
        shapes=[""] * count, inputs=[[]] * count,
    )  # fmt: skip
    assert align(side, side) == [(i, i) for i in range(count)]


def test_constants_stand_before_their_reader_and_belong_to_their_batch_norm(tmp_path: Path) -> None:
    text = """
        <ir_version: 9, opset_import: ["" : 18]>
        agraph (float[2, 3] x) => (float[2, 3] y)
        <float[3] g = {1, 2, 3}, float[3] v = {1, 4, 9}, float[3] m = {0, 1, 2}, float[3] b = {3, 2, 1},
         float[1] e = {0.001}, float[3, 3] w = {1, 0, 0, 0, 2, 0, 0, 0, 3}> {
            ve = Add(v, e)
            sd = Sqrt(ve)
            r = Reciprocal(sd)
            s = Mul(r, g)
            ms = Mul(m, s)
            t = Sub(b, ms)
            d = MatMul(x, w)
            q = Relu(d)
            p = MatMul(q, w)
            n = Mul(p, s)
            y = Add(n, t)
        }
    """
    onnx.save(onnx.parser.parse_model(text), tmp_path / "spelled.onnx")
    report = folding.fold(tmp_path / "spelled.onnx", tmp_path / "out.onnx", FoldOptions(verify=False))
    found = report.graph_map
    assert found is not None
    assert found.before.names[:4] == ["x", "d", "q", "p"], "constants come as late as they can"
    (site,) = found.sites
    assert [found.after.names[node] for node in site.after] == ["y"]
    assert {found.before.names[node] for node in site.before} == {"ve", "sd", "r", "s", "ms", "t", "n", "y"}
