"""Operators of LiteRT's integer kernels against an ONNX graph: rounding passes, any fault does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from folding.sources.base import SourceLayer
from folding.sources.gates.tflite import check_tflite
from folding.sources.tflite.reference import LiteRtReference
from folding.verify.model import load
from folding.verify.steps.compare_source_layers import LayerOutcome, conclusion, judge_floats, outcomes
from tests.support import tflite_files as files
from tests.unit.folding.verify.models import write

GRAPH = """g (int8[N,4] x) => (int8[N,3] y) {
    xd = DequantizeLinear(x, xs, xz) wd = DequantizeLinear<axis=0>(w, ws, wz) wt = Transpose<perm=[1,0]>(wd)
    m = MatMul(xd, wt) a = Add(m, b) r = Relu(a) y = QuantizeLinear(r, ys, yz) }"""


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[SourceLayer], np.ndarray]:
    """What LiteRT computes for the quantized file on random inputs."""
    path = tmp_path_factory.mktemp("litert") / "m.tflite"
    path.write_bytes(files.quantized())
    graph = check_tflite(path.read_bytes()).graphs[0]
    reference = LiteRtReference(path, graph, [tensor.name for tensor in graph.tensors], judged=False)
    x = np.random.default_rng(3).integers(-128, 128, (64, 4)).astype(np.int8)
    found = reference.layers({"x": x})
    assert np.array_equal(reference.run({"x": x})["y"], found[0].value)
    reference.close()
    return found, x


def judged(folder: Path, layers: tuple[list[SourceLayer], np.ndarray], **spoilt: np.ndarray) -> LayerOutcome:
    """The outcome of `y` in a graph whose weights may be spoilt."""
    scales = np.array([0.01, 0.02, 0.03], np.float32)
    weights = {
        "xs": np.float32(0.05), "xz": np.int8(-3), "ys": np.float32(0.1), "yz": np.int8(5),
        "w": np.array([[127, -90, 3, 40], [-127, 5, 60, -7], [11, 127, -33, 2]], np.int8),
        "ws": scales, "wz": np.zeros(3, np.int8),
        "b": np.array([100, -200, 300], np.float32) * scales * np.float32(0.05),
    }  # fmt: skip
    source = load(write(folder / "m.onnx", GRAPH, **{**weights, **spoilt}))
    found, x = layers
    return outcomes(source, found, {"x": x})["y"]


def test_the_same_function_differs_by_rounding_alone(
    tmp_path: Path, layers: tuple[list[SourceLayer], np.ndarray]
) -> None:
    outcome = judged(tmp_path, layers)
    assert outcome.status == "pass"
    assert 0 < outcome.difference <= 0.76
    assert abs(outcome.mean) < 0.1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("b", np.array([0.05, -0.2, 0.45 + 0.31], np.float32)),  # three steps in one channel
        ("ws", np.array([0.01, 0.021, 0.03], np.float32)),
        ("w", np.array([[127, -90, 3, 40], [-127, 5, 60, -7], [11, 127, -30, 2]], np.int8)),
        ("xz", np.int8(2)),
        ("yz", np.int8(8)),
    ],
)
def test_a_fault_of_a_few_steps_fails(
    tmp_path: Path, layers: tuple[list[SourceLayer], np.ndarray], name: str, value: np.ndarray
) -> None:
    outcome = judged(tmp_path, layers, **{name: value})
    assert outcome.status in ("fail", "undecided")
    row = conclusion("litert", [outcome], 1, [])
    if outcome.status == "undecided":  # never a pass
        assert row.findings.gaps
    else:
        assert row.rows[0].status == "fail"


def test_a_large_fault_fails(tmp_path: Path, layers: tuple[list[SourceLayer], np.ndarray]) -> None:
    swapped = np.array([[-127, 5, 60, -7], [127, -90, 3, 40], [11, 127, -33, 2]], np.int8)
    assert judged(tmp_path, layers, w=swapped).status == "fail"


def test_an_operator_without_a_bound_is_a_gap_and_never_a_pass(
    tmp_path: Path, layers: tuple[list[SourceLayer], np.ndarray]
) -> None:
    found, x = layers
    unknown = [SourceLayer(one.name, "SVDF", one.value, one.reads, one.quantization, None) for one in found]
    outcome = judged(tmp_path, (unknown, x))
    assert outcome.status == "not_compared"
    result = conclusion("litert", [outcome], 1, [])
    assert result.rows[0].status == "not_compared"
    assert "SVDF" in result.findings.gaps[0]


@pytest.mark.parametrize(
    ("share", "status"), [(1e-6, "pass"), (5e-4, "undecided"), (2e-3, "fail"), (np.nan, "fail")]
)
def test_floats_between_integer_layers(share: float, status: str) -> None:
    value = np.linspace(-1, 1, 11)
    layer = SourceLayer("f", "EXP", value, (), None, None)
    computed = value.copy()
    computed[4] += share
    assert judge_floats(layer, computed).status == status
