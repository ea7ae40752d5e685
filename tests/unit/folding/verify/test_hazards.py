"""Known runtime hazards, each with a reproducer that tells when a new ONNX Runtime mends it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from folding import pipeline
from folding.errors.catalogue import HAZARDS
from folding.ort import OrtSession
from folding.report import Verdict
from folding.verify.steps import find_hazards
from tests.support.paths import ROOT
from tests.unit.folding.verify.models import array, check, write

BN = {"g": array(6), "b": array(6, salt=1), "m": array(6, salt=2), "v": np.abs(array(6, salt=3)) + 0.1}
PAD = """g (float[1,4,8,8] x) => (float[1,4,5,5] y) {
    p = Pad(x, pads) y = MaxPool<kernel_shape=[2,2],strides=[2,2]>(p) }"""
MOVED = """g (float[6,4] x) => (float[6,6] y) {
    p = MatMul(x, w) q = Transpose<perm=[1,0]>(p) y = BatchNormalization(q, g, b, m, v) }"""

# code -> (graph, initializers, input)
REPRODUCERS = {
    "pad_fusion_max_pool": (
        PAD,
        {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])},
        -np.abs(array(1, 4, 8, 8)) - 1,
    ),
    "matmul_bn_fusion_moved_axis": (MOVED, {"w": array(4, 6), **BN}, array(6, 4)),
}


@pytest.mark.parametrize("code", list(REPRODUCERS))
def test_the_runtime_still_has_the_fault(code: str, tmp_path: Path) -> None:
    """When this fails the runtime was mended: say so in docs/reference/hazards.md and drop the avoidance."""
    text, tensors, x = REPRODUCERS[code]
    path = write(tmp_path / "m.onnx", text, **tensors)
    right = OrtSession(path, "disable_all").run({"x": x})["y"]
    for level in ("enable_basic", "enable_all"):
        wrong = OrtSession(path, level).run({"x": x})["y"]
        assert np.abs(right - wrong).max() > 0.01 * np.abs(right).max(), (
            f"ONNX Runtime {onnxruntime.__version__} no longer has {code}"
        )


@pytest.mark.parametrize("code", list(REPRODUCERS))
def test_it_is_found_named_and_the_workaround_works(code: str, tmp_path: Path) -> None:
    text, tensors, x = REPRODUCERS[code]
    path = write(tmp_path / "m.onnx", text, **tensors)
    found = check(path, path)
    assert found.verdict is Verdict.FAIL
    (hazard,) = found.hazards
    assert hazard.code == code
    assert hazard.optimizer
    assert hazard.optimizer in hazard.workaround
    right = OrtSession(path, "disable_all").run({"x": x})["y"]
    mended = OrtSession(path, "enable_all", disabled_optimizers=[hazard.optimizer]).run({"x": x})["y"]
    np.testing.assert_allclose(mended, right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("code", list(REPRODUCERS))
def test_the_pipeline_names_it_and_avoids_it(code: str, tmp_path: Path) -> None:
    text, tensors, x = REPRODUCERS[code]
    source = write(tmp_path / "m.onnx", text, **tensors)
    report = pipeline.fold(source, tmp_path / "a.onnx")
    assert report.verdict is Verdict.PASS, report.summary
    assert [hazard.code for hazard in report.hazards] == [code]
    assert "avoids it" in report.hazards[0].detail
    right = OrtSession(source, "disable_all").run({"x": x})["y"]
    artifact = OrtSession(tmp_path / "a.onnx", "enable_all").run({"x": x})["y"]
    np.testing.assert_allclose(artifact, right, rtol=1e-4, atol=1e-5)


def test_bisection_finds_two_culprits_that_act_together() -> None:
    guilty = {"ConvMulFusion", "LabelEncoderFusion"}

    def mended(level: str, disabled: object) -> bool:
        return level == "enable_basic" or guilty <= set(disabled)  # type: ignore[call-overload]

    level, names = find_hazards.bisect(mended)
    assert level == "enable_extended"
    assert set(names) == guilty


def test_bisection_admits_what_cannot_be_switched_off() -> None:
    assert find_hazards.bisect(lambda level, disabled: False) == ("enable_basic", [])


def test_every_code_is_explained() -> None:
    codes = {known.code for known in find_hazards.KNOWN} | {find_hazards.UNKNOWN}
    assert codes <= set(HAZARDS)
    page = (ROOT / "docs/reference/hazards.md").read_text()
    assert all(f"`{code}`" in page for code in codes)


OWN_PADS = """g (float[2,3,8,8] x) => (float[2,3,5,5] y) {
    r = Relu(x) p = Pad(r, pads) y = MaxPool<kernel_shape=[2,2],strides=[2,2],pads=[1,1,0,0]>(p) }"""


def too_wide(folder: Path, opset: int) -> Path:
    """Both paddings together are as wide as the window: merged, the pooling is refused."""
    return write(folder / "m.onnx", OWN_PADS, opset, pads=np.array([0, 0, 1, 1, 0, 0, 0, 0]))


def test_a_model_that_the_defaults_cannot_load_is_traced_too(tmp_path: Path) -> None:
    path = too_wide(tmp_path, 18)
    OrtSession(path, "disable_all")
    with pytest.raises(Exception, match="Pad should be smaller than kernel"):
        OrtSession(path, "enable_all")
    found = check(path, path)
    assert found.verdict is Verdict.FAIL
    (hazard,) = found.hazards
    assert hazard.code == "pad_fusion_max_pool"
    assert "does not load" in hazard.detail


def test_its_artifact_loads_at_the_defaults(tmp_path: Path) -> None:
    report = pipeline.fold(too_wide(tmp_path, 18), tmp_path / "a.onnx")
    assert report.verdict is Verdict.PASS, report.summary
    assert "avoids it" in report.hazards[0].detail
    OrtSession(tmp_path / "a.onnx", "enable_all")


AVERAGED = """g (float[1,2,8,8] x) => (float[1,M,4,4] y) {{
    a = QuantizeLinear(x, s, z) b = DequantizeLinear(a, s, z) c = Conv(b, w)
    p = AveragePool<kernel_shape=[2,2],strides=[2,2]>({pooled})
    d = QuantizeLinear(p, s, z) y = DequantizeLinear(d, s, z) }}"""
STEPS = {"s": np.float32(0.1), "z": np.uint8(128)}


def test_ties_between_quantization_steps_are_noise(tmp_path: Path) -> None:
    """Averages of quantized values lie between two steps; another order of summation rounds them apart."""
    text = AVERAGED.format(pooled="b").replace("M,4,4", "2,4,4")
    path = write(tmp_path / "m.onnx", text, w=array(3, 2, 1, 1), **STEPS)
    assert check(path, path).verdict is Verdict.PASS


@pytest.mark.parametrize("gain", [1.0, 1.3])
def test_a_fault_of_several_steps_is_not(tmp_path: Path, gain: float) -> None:
    text = AVERAGED.format(pooled="c").replace("M,4,4", "3,4,4")
    a = write(tmp_path / "a.onnx", text, w=array(3, 2, 1, 1), **STEPS)
    b = write(tmp_path / "b.onnx", text, w=array(3, 2, 1, 1) * np.float32(gain), **STEPS)
    assert check(a, b).verdict is (Verdict.PASS if gain == 1.0 else Verdict.FAIL)


WEIGHT_ONLY = (
    "g (float[N,64] x) => (float[N,32] y) { w = DequantizeLinear<axis=1>(q, s, z) y = MatMul(x, w) }"
)


def weight_only(path: Path, gain: float = 1.0) -> Path:
    """Quantized weights, float activations."""
    q = np.random.default_rng(0).integers(-127, 127, (64, 32)).astype(np.int8)
    scales = (np.abs(array(32)) * np.float32(0.02) + np.float32(0.001)) * np.float32(gain)
    return write(path, WEIGHT_ONLY, 21, q=q, s=scales, z=np.zeros(32, np.int8))


def test_a_precision_that_the_runtime_chooses_for_both_is_reported_and_not_judged(tmp_path: Path) -> None:
    path = weight_only(tmp_path / "a.onnx")
    x = {"x": array(5, 64)}
    right = OrtSession(path, "disable_all").run(x)["y"]
    moved = OrtSession(path, "enable_all").run(x)["y"]
    assert np.abs(moved - right).max() > 1e-3 * np.abs(right).max(), (
        f"ONNX Runtime {onnxruntime.__version__} no longer has qdq_matmul_accuracy"
    )
    entries = {"session.qdq_matmulnbits_accuracy_level": "1"}
    mended = OrtSession(path, "enable_all", entries=entries).run(x)["y"]
    np.testing.assert_allclose(mended, right, rtol=1e-4, atol=1e-4)
    found = check(path, path)
    assert found.verdict is Verdict.PASS, found.summary
    assert [hazard.code for hazard in found.hazards] == ["qdq_matmul_accuracy"]
    assert "session.qdq_matmulnbits_accuracy_level" in found.hazards[0].workaround
    assert "less precise (qdq_matmul_accuracy)" in found.summary


QUANTIZED_CONV = """g (float[1,3,9,9] x) => (float[1,6,7,7] y) {
    xq = QuantizeLinear(x, xs, z) xd = DequantizeLinear(xq, xs, z) wd = DequantizeLinear(wq, ws, z)
    c = Conv(xd, wd, b) r = Relu(c) rq = QuantizeLinear(r, rs, z) y = DequantizeLinear(rq, rs, z) }"""


def quantized_conv(path: Path, gain: float = 1.0) -> Path:
    """Everything quantized but the bias."""
    wq = np.random.default_rng(0).integers(-40, 40, (6, 3, 3, 3)).astype(np.int8)
    scales = {"xs": np.float32(0.03), "ws": np.float32(0.01 * gain), "rs": np.float32(0.05)}
    return write(path, QUANTIZED_CONV, wq=wq, z=np.int8(0), b=array(6), **scales)


def test_a_source_that_differs_between_levels_excuses_its_artifact_there(tmp_path: Path) -> None:
    path = quantized_conv(tmp_path / "a.onnx")
    found = check(path, path)
    assert found.verdict is Verdict.PASS, found.summary
    (hazard,) = found.hazards
    assert hazard.code == "weight_bias_quantization"
    assert hazard.optimizer == "WeightBiasQuantization"
    assert {r.judged for r in found.rows if r.optimization_level == "enable_all"} == {False}
    wrong = check(path, quantized_conv(tmp_path / "b.onnx", gain=1.02))
    assert wrong.verdict is Verdict.FAIL


def test_a_fault_beside_it_is_judged_where_the_runtime_is_precise(tmp_path: Path) -> None:
    found = check(weight_only(tmp_path / "a.onnx"), weight_only(tmp_path / "b.onnx", gain=1.001))
    assert found.verdict is Verdict.FAIL
