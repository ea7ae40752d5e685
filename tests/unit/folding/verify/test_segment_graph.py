"""A part of a graph computes what the whole computes from the same forced values, with fewer nodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from folding.verify.compare.cuts import dtypes
from folding.verify.compare.graph_stream import Numbering
from folding.verify.compare.segment_graph import cut_out
from folding.verify.model import load
from tests.unit.folding.verify.models import array, write

TEXT = """
g (float[2,3] x, float[3,3] v) => (float[2,3] y) {
    a = MatMul(x, v)
    b = Relu(a)
    c = MatMul(b, w)
    d = Sigmoid(c)
    e = Add(d, b)
    y = MatMul(e, u)
}"""


def test_a_part_computes_what_the_whole_does(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", TEXT, w=array(3, 3), u=array(3, 3, salt=1), v=array(3, 3, salt=2))
    loaded = load(path)
    feeds = {"x": array(2, 3), "v": array(3, 3, salt=3)}
    forced = {"b": array(2, 3, salt=4), "d": array(2, 3, salt=5)}
    whole = loaded.session(list(forced), dtypes(forced)).run(feeds, None, forced)
    for wanted, nodes, starts in (({"d"}, 2, {"b"}), ({"b"}, 2, set()), ({"y", "d"}, 4, {"b", "d"})):
        part, needed = cut_out(loaded, wanted, forced)
        assert (len(part.proto.graph.node), needed) == (nodes, starts)
        inner = {name: forced[name] for name in needed}
        found = part.session(sorted(wanted), dtypes(inner)).run(feeds, None, inner)
        assert set(found) == wanted
        for name in wanted:
            assert np.array_equal(found[name], whole[name])
    assert set(cut_out(loaded, {"d"}, forced)[0].weights) == {"w"}


def test_what_a_body_reads_belongs_to_the_part(tmp_path: Path) -> None:
    text = """
g (bool c, float[3] x) => (float[3] y) {
    a = Relu(x)
    b = Exp(x)
    y = If(c) <then_branch = t () => (float[3] p) { p = Neg(a) },
               else_branch = f () => (float[3] q) { q = Mul(a, b) }>
}"""
    loaded = load(write(tmp_path / "m.onnx", text))
    part, needed = cut_out(loaded, {"y"}, {"a"})
    assert [node.op_type for node in part.proto.graph.node] == ["Exp", "If"]
    assert needed == {"a"}
    feeds, forced = {"c": np.array(False), "x": array(3)}, {"a": array(3, salt=1)}
    found = part.session(["y"], dtypes(forced)).run(feeds, None, forced)
    assert np.allclose(found["y"], forced["a"] * np.exp(feeds["x"]))


def test_constants_have_one_number_where_type_shape_and_bytes_are_equal() -> None:
    numbering = Numbering()
    first = array(40, 50)
    number = numbering.constant(first)
    assert numbering.constant(first) == numbering.constant(first.copy()) == number
    middle = first.copy()
    middle[20, 20] += 1  # alike at both ends
    others = [middle, first.reshape(50, 40), first.view(np.int32), first.T, np.zeros(3), -np.zeros(3)]
    assert len({number, *(numbering.constant(each) for each in others)}) == 7
    assert numbering.constant(middle.copy()) == numbering.constant(middle)
    texts = np.array(["a", "b"], object)
    assert numbering.constant(texts) != numbering.constant(texts)  # never said to be equal
