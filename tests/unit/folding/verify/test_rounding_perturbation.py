"""Noise of graphs that round inside: float16 computed with float32 weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from folding import pipeline
from folding.report import Verdict
from folding.verify import pipeline as verify_pipeline
from folding.verify.model import Loaded, load
from folding.verify.noise import measure
from folding.verify.noise.rounding_perturbation import narrowed, perturbed_weights, rounding_perturbed
from tests.unit.folding.verify.models import array, check, write

# As Keras writes a layer under mixed_float16: weights stay float32 and are cast where they are used.
MIXED = """g (float[N,8,6,6] x) => (float[N,8,6,6] y) {
    h = Cast<to=10>(x) k = Cast<to=10>(w) c = Conv<pads=[1,1,1,1]>(h, k) f = Cast<to=1>(c)
    y = BatchNormalization(f, g, b, m, v) }"""


def mixed(path: Path, gain: float = 1.0) -> Path:
    spoiled = array(8, 8, 3, 3, scale=0.2)
    spoiled[3] *= np.float32(gain)
    variance = np.abs(array(8, salt=4)) + np.float32(0.1)
    return write(
        path, MIXED, w=spoiled, g=array(8, salt=1), b=array(8, salt=2), m=array(8, salt=3), v=variance
    )


def test_a_fold_in_mixed_precision_passes(tmp_path: Path) -> None:
    """The folded weight rounds once more to float16: that is what an equivalent execution does too."""
    report = pipeline.fold(mixed(tmp_path / "a.onnx"), tmp_path / "b.onnx")
    assert report.verdict is Verdict.PASS, report.summary
    assert report.graph.batch_norms_after == 0


def test_a_channel_that_is_off_by_two_per_cent_does_not(tmp_path: Path) -> None:
    found = check(mixed(tmp_path / "a.onnx"), mixed(tmp_path / "b.onnx", gain=1.02))
    assert found.verdict is Verdict.FAIL


def test_weights_move_in_the_precision_that_they_are_computed_with(tmp_path: Path) -> None:
    source = load(mixed(tmp_path / "a.onnx"))
    assert list(narrowed(source)) == ["w"]
    moved = perturbed_weights(source, np.random.default_rng(0))
    steps = np.abs(moved["w"].astype(np.float16) - source.weights["w"].astype(np.float16))
    assert (steps > 0).mean() > 0.9  # float32 in the middle between two of float16 may stay at one
    assert (steps <= 2 * np.spacing(np.abs(source.weights["w"]).astype(np.float16))).all()
    np.testing.assert_allclose(moved["g"], source.weights["g"], rtol=2.0**-22)


def test_activations_move_where_they_are_narrowed(tmp_path: Path) -> None:
    source = load(mixed(tmp_path / "a.onnx"))
    up, down = rounding_perturbed(source, np.random.default_rng(0))
    added = [node for node in up.proto.graph.node if node.op_type == "Mul"]
    assert [node.input[0] for node in added] == ["x"]
    assert len(down.proto.graph.node) == len(source.proto.graph.node) + 1


@pytest.mark.parametrize("text", [
    "g (float[N,4] x) => (float[N,3] y) { y = MatMul(x, w) }",
    "g (float[N,4] x) => (double[N,3] y) { z = MatMul(x, w) y = Cast<to=11>(z) }",
    "g (float[N,4] x) => (int32[N,3] y) { z = MatMul(x, w) y = Cast<to=6>(z) }",
])  # fmt: skip
def test_graphs_that_do_not_round_are_left_alone(tmp_path: Path, text: str) -> None:
    source = load(write(tmp_path / "a.onnx", text, w=array(4, 3)))
    assert rounding_perturbed(source, np.random.default_rng(0)) == ()
    assert narrowed(source) == {}


def test_a_moved_graph_that_does_not_load_is_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(source: Loaded, rng: np.random.Generator) -> list[Loaded]:
        proto = onnx.ModelProto()
        proto.CopyFrom(source.proto)
        proto.graph.node[0].op_type = "Frobnicate"
        return [replace(source, proto=proto)]

    monkeypatch.setattr(measure, "rounding_perturbed", broken)
    same = write(tmp_path / "a.onnx", "g (float[N,4] x) => (float[N,4] y) { y = Tanh(x) }")

    class Measured(measure.NoiseModel):
        """Measures at once: these comparisons would not need it."""

        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self.measure()

    monkeypatch.setattr(verify_pipeline, "NoiseModel", Measured)
    found = check(same, same)
    assert found.verdict is Verdict.PASS
    assert "noise where the graph rounds" in found.rows[0].figures["left_out"][0]
