"""What could not be compared is said so, and is never the artifact's fault."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from folding.report import Verdict
from folding.verify import float64
from folding.verify.compare.rows import Candidate, row
from folding.verify.noise.tolerance import Tolerance
from folding.verify.steps import float64_reference
from tests.unit.folding.verify.models import array, check, write


class Exact:
    """Limits of zero for one output, or an exception where they are asked for."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def names(self) -> list[str]:
        return ["y", "z"]

    def tolerance(self, output: str, probe: str) -> Tolerance:
        if self.error is not None and output == "y":
            raise self.error
        return Tolerance(0.0, 0.0, "exact")

    def sharpen(self, probe: str) -> bool:
        return False


ONE = np.ones(3, np.float32)


def test_an_error_in_our_comparison_is_not_a_difference() -> None:
    candidate = Candidate("cpu", "disable_all", True, answers={"p": {"y": ONE, "z": ONE}})
    made = row("r", {"p": {"y": ONE, "z": ONE}}, candidate, Exact(ValueError("shapes (5,) (4,)")))
    assert made.status == "pass"
    assert "'y' on probe 'p' was not compared: shapes (5,) (4,)" in made.detail
    alone = row("r", {"p": {"y": ONE}}, candidate, Exact(ValueError("shapes (5,) (4,)")))
    assert alone.status == "not_compared"


def test_a_real_difference_beside_it_still_fails() -> None:
    candidate = Candidate("cpu", "disable_all", True, answers={"p": {"y": ONE, "z": ONE + 1}})
    made = row("r", {"p": {"y": ONE, "z": ONE}}, candidate, Exact(ValueError("no")))
    assert made.status == "fail"


def sequence_model(path: Path, weight: np.ndarray) -> Path:
    text = """g (float[1,3,6,6] x) => (float[?,?,?,?] y, seq(float) s) {
        c = Conv(x, w) r = Relu(c) s = SplitToSequence<axis=1>(r, two) p = SequenceAt(s, zero)
        q = SequenceAt(s, one) y = Mul(p, q) }"""
    model = parser.parse_model(f'<ir_version: 9, opset_import: ["" : 17]>\n{text}')
    for name, value in {"w": weight, "two": np.array(2), "zero": np.array(0), "one": np.array(1)}.items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    onnx.save_model(model, str(path))
    return path


def test_sequences_inside_and_at_the_output_are_compared(tmp_path: Path) -> None:
    weight = array(4, 3, 3, 3)
    good = sequence_model(tmp_path / "a.onnx", weight)
    found = check(good, good)
    assert found.verdict is Verdict.PASS, found.summary
    wrong = weight.copy()
    wrong[1] *= 1.001
    assert check(good, sequence_model(tmp_path / "b.onnx", wrong)).verdict is Verdict.FAIL


def test_a_noise_run_that_the_model_refuses_is_left_out(tmp_path: Path) -> None:
    """Scales of exactly one for batch and channels: a neighbouring float is refused by the runtime."""
    text = """g (float[1,1,4,4] x, float[4] s) => (float[1,1,?,?] y) { t = Identity(s)
        y = Resize<mode="cubic",coordinate_transformation_mode="asymmetric">(x, , t) }"""
    path = write(tmp_path / "m.onnx", text)
    assert check(path, path).verdict is Verdict.PASS
    given = {"x": array(1, 1, 4, 4), "s": np.array([1, 1, 2, 2], np.float32)}
    assert check(path, path, probe=given).verdict is Verdict.PASS


def test_a_wrong_integer_of_the_evaluator_is_no_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "g (float[2,5] x) => (int64[2,1] y, float[2,5] z) { y = ArgMax<axis=1>(x) z = Relu(x) }"
    path = write(tmp_path / "m.onnx", text)

    def off_by_one(*args: object, **kwargs: object) -> dict[str, np.ndarray]:
        found = float64.evaluate(*args, **kwargs)
        return {**found, "y": found["y"] + 1}

    monkeypatch.setattr(float64_reference, "evaluate", off_by_one)
    found = check(path, path)
    assert found.verdict is Verdict.PASS, found.summary
    assert "float64 left out for 'y'" in found.summary
    assert {o.name for r in found.rows if r.reference == "float64" for o in r.outputs} == {"z"}


def test_an_output_that_the_source_omits_is_no_error(tmp_path: Path) -> None:
    text = """g (float[4,2,3] x) => (float[1,2,5] h) {
        unused, h = LSTM<hidden_size=5>(x, w, r, b) }"""
    tensors = {"w": array(1, 20, 3), "r": array(1, 20, 5), "b": array(1, 40)}
    path = write(tmp_path / "m.onnx", text, **tensors)
    model = onnx.load_model(str(path))
    model.graph.node[0].output[0] = ""
    onnx.save_model(model, str(path))
    found = check(path, path)
    assert found.verdict is Verdict.PASS, found.summary


def test_a_shape_that_follows_from_an_input_is_a_reaction(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", "g (int64[2] s) => (float[?,?] y) { y = ConstantOfShape(s) }")
    found = check(path, path)
    assert found.verdict is Verdict.PASS, found.summary


def test_a_declared_shape_that_the_source_contradicts_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", "g (float[N,4] x) => (float[N,4] y) { y = Neg(x) }")
    model = onnx.load_model(str(path))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7
    onnx.save_model(model, str(path))
    found = check(path, path)
    assert found.verdict is Verdict.PASS, found.summary
    assert "output 'y' is declared as ?x7, but the source computes 1x4" in found.summary
