"""Branches that no probe takes are compared by force; what cannot be forced is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from folding.report import Verdict
from folding.verify.verdict import BRANCHES
from tests.unit.folding.verify.models import array, check, write

ONE = """g (float[N,4] x) => (float[N,3] y) {
    m = ReduceMax<keepdims=0>(x)
    c = Greater(m, limit)
    y = If(c) <
        then_branch = t () => (float[N,3] a) { a = MatMul(x, rare) },
        else_branch = e () => (float[N,3] b) { b = MatMul(x, usual) }
    >
}"""
FLAG = """g (float[N,4] x, bool c) => (float[N,3] y) {
    y = If(c) <
        then_branch = t () => (float[N,3] a) { a = MatMul(x, rare) },
        else_branch = e () => (float[N,3] b) { b = MatMul(x, usual) }
    >
}"""
OTHER_NAME = ONE.replace("c = Greater", "d = Greater").replace("If(c)", "If(d)")


def graph(path: Path, text: str = ONE, limit: float = 1e6, rare: float = 1.0) -> Path:
    weights = array(4, 3)
    spoiled = array(4, 3, salt=1)
    spoiled[:, 1] *= np.float32(rare)
    tensors = {"usual": weights, "rare": spoiled}
    if "limit" in text:
        tensors["limit"] = np.float32(limit)
    return write(path, text, **tensors)


@pytest.mark.parametrize("limit", [1e6, -1e6], ids=["then", "else"])
def test_the_same_weights_pass(tmp_path: Path, limit: float) -> None:
    found = check(graph(tmp_path / "a.onnx", limit=limit), graph(tmp_path / "b.onnx", limit=limit))
    assert found.verdict is Verdict.PASS, found.summary
    (row,) = (row for row in found.rows if row.reference == BRANCHES)
    assert row.status == "pass"
    assert ("then" if limit > 0 else "else") in row.outputs[0].worst_probe


def test_a_fault_in_a_branch_that_no_probe_takes_is_found(tmp_path: Path) -> None:
    found = check(graph(tmp_path / "a.onnx"), graph(tmp_path / "b.onnx", rare=1.001))
    assert found.verdict is Verdict.FAIL
    assert [row.reference for row in found.rows if row.status == "fail"] == [BRANCHES]
    assert BRANCHES in found.summary


def test_a_flag_that_is_an_input_is_forced_too(tmp_path: Path) -> None:
    probe = {"x": array(2, 4), "c": np.asarray(False)}
    sides = graph(tmp_path / "a.onnx", FLAG), graph(tmp_path / "b.onnx", FLAG, rare=1.001)
    assert check(*sides, probe=probe).verdict is Verdict.FAIL


def test_a_condition_that_the_artifact_has_not_is_said(tmp_path: Path) -> None:
    found = check(graph(tmp_path / "a.onnx"), graph(tmp_path / "b.onnx", OTHER_NAME))
    assert found.verdict is Verdict.PASS
    assert "the then branch of 'y' is taken by no probe" in found.summary


def test_a_branch_that_probes_take_is_not_forced(tmp_path: Path) -> None:
    found = check(graph(tmp_path / "a.onnx", limit=1.0), graph(tmp_path / "b.onnx", limit=1.0))
    assert found.verdict is Verdict.PASS
    assert not [row for row in found.rows if row.reference == BRANCHES]


def test_a_source_that_overflows_by_itself_is_no_fault(tmp_path: Path) -> None:
    """A softmax written out: float32 gives inf / inf on large inputs, float64 does not."""
    text = """g (float[N,4] x) => (float[N,3] y) {
        z = MatMul(x, w) e = Exp(z) s = ReduceSum<keepdims=1>(e, last) y = Div(e, s) }"""
    sides = [
        write(tmp_path / f"{side}.onnx", text, w=array(4, 3, scale=150.0), last=np.array([1], np.int64))
        for side in "ab"
    ]
    found = check(*sides)
    assert found.verdict is Verdict.PASS, found.summary
    assert "leaves its range there" in found.summary
