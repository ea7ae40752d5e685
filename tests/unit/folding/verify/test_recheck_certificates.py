"""Certificates checked again from the source and the artifact alone."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

import folding
from folding import pipeline
from folding.report import Verdict, Verification
from folding.verify.steps import recheck_certificates
from tests.unit.folding.verify import nets
from tests.unit.folding.verify.models import write


def recheck(source: Path, artifact: Path) -> Verification:
    return folding.verify(source, artifact, certificate=True)


@pytest.mark.parametrize("kind", ["plain", "mobile", "unet", "mlp", "dense_block"])
def test_what_the_pipeline_folds_is_certified_again(kind: str, tmp_path: Path) -> None:
    pair = nets.build(kind, tmp_path, 2)
    pipeline.fold(pair.unfolded, tmp_path / "artifact.onnx")
    found = recheck(pair.unfolded, tmp_path / "artifact.onnx")
    assert found.verdict is Verdict.PASS, found.summary
    assert [row.reference for row in found.rows] == [
        recheck_certificates.SEGMENTS,
        recheck_certificates.WEIGHTS,
    ]
    assert found.rows[1].figures["max_relative"] == 0.0


def test_one_weight_off_by_1e_5_is_seen(tmp_path: Path) -> None:
    """Far below what any output shows: the closed form has no noise but the weights' own rounding."""
    pair = nets.build("residual", tmp_path, 2)
    pipeline.fold(pair.unfolded, tmp_path / "artifact.onnx")
    model = onnx.load(tmp_path / "artifact.onnx")
    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    array = numpy_helper.to_array(tensor).copy()
    array[3] *= 1.00001
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, tmp_path / "spoilt.onnx")
    found = recheck(pair.unfolded, tmp_path / "spoilt.onnx")
    assert found.verdict is Verdict.FAIL
    assert all(row.status == "fail" for row in found.rows)


@pytest.mark.parametrize("fault", nets.FAULTS)
def test_every_fault_breaks_it(fault: str, tmp_path: Path) -> None:
    pair = nets.build("inception", tmp_path, 3, {2: fault})
    assert recheck(pair.unfolded, pair.folded).verdict is Verdict.FAIL


def test_a_pair_folded_by_somebody_else_holds_by_its_segments(tmp_path: Path) -> None:
    """Our own fold names or splits weights differently; the identities hold all the same."""
    pair = nets.build("grouped", tmp_path, 3)
    assert recheck(pair.unfolded, pair.folded).verdict is Verdict.PASS


def test_without_float64_it_is_inconclusive(tmp_path: Path) -> None:
    text = """g (float[2,3] x) => (float[2,3] y) {
        s = ReduceSum<keepdims=0>(x) z = Sub(s, s) c = Equal(z, z)
        y = If(c) <then_branch = t () => (float[2,3] a) { a = Relu(x) },
                   else_branch = e () => (float[2,3] b) { b = Neg(x) }> }"""
    path = write(tmp_path / "m.onnx", text)
    assert recheck(path, path).verdict is Verdict.INCONCLUSIVE


def test_another_interface_fails(tmp_path: Path) -> None:
    pair = nets.build("mlp", tmp_path, 1)
    (tmp_path / "o").mkdir()
    plain = nets.build("plain", tmp_path / "o", 1)
    assert recheck(pair.unfolded, plain.folded).verdict is Verdict.FAIL
