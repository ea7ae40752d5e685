"""Known runtime hazards, each with a reproducer that tells when a new ONNX Runtime mends it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from folding import pipeline
from folding.catalogue import HAZARDS
from folding.report import Verdict
from folding.verify import hazards
from folding.verify.ort import OrtSession
from tests.folding.verify.models import array, check, write

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

    level, names = hazards.bisect(mended)
    assert level == "enable_extended"
    assert set(names) == guilty


def test_bisection_admits_what_cannot_be_switched_off() -> None:
    assert hazards.bisect(lambda level, disabled: False) == ("enable_basic", [])


def test_every_code_is_explained() -> None:
    codes = {known.code for known in hazards.KNOWN} | {hazards.UNKNOWN}
    assert codes <= set(HAZARDS)
    page = (Path(__file__).parents[3] / "docs/reference/hazards.md").read_text()
    assert all(f"`{code}`" in page for code in codes)
