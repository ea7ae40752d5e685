"""Preprocessing in the artifact: raw values in, and the answers of the source for normalized ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import numpy_helper, parser

import bnfold
from folding.errors import UsageError
from folding.ir.types import Feeds
from folding.options import FoldOptions
from folding.report import SourceReport, Verdict
from folding.sources.base import Imported, SourceLayer
from folding.sources.preprocessing import PreprocessedLayers, prepend

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def network(pad: int = 0, rng: np.random.Generator | None = None, before: str = "") -> onnx.ModelProto:
    """A convolution with 3 channels in and 4 out; `before` is ONNX text that makes `b` of `x`."""
    rng = rng or np.random.default_rng(3)
    reads = "b" if before else "x"
    text = f"""<ir_version: 8, opset_import: ["": 18]>
    net (float[N, 3, 8, 8] x) => (float[N, 4, h, w] y) {{
        {before}
        c = Conv<pads = [{pad}, {pad}, {pad}, {pad}]>({reads}, w)
        y = Relu(c)
    }}"""
    model = parser.parse_model(text)
    weights = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "w"))
    return model


def constants(**values: float) -> str:
    return " ".join(f"{name} = Constant<value_float = {value}>()" for name, value in values.items()) + " "


def operators(result: Any) -> list[str]:
    return [node.op_type for node in result.model().graph.node]


def answer(model: bytes, x: np.ndarray) -> np.ndarray:
    found: np.ndarray = onnxruntime.InferenceSession(model).run(None, {"x": x})[0]
    return found


def raw(shape: tuple[int, ...] = (2, 3, 8, 8)) -> np.ndarray:
    return np.random.default_rng(9).integers(0, 256, shape).astype(np.uint8)


def normalized(x: np.ndarray, mean: list[float] = MEAN, std: list[float] = STD) -> np.ndarray:
    shape = (1, 3, 1, 1)
    found = (x.astype(np.float64) - np.reshape(mean, shape)) / np.reshape(std, shape)
    return found.astype(np.float32)


@pytest.mark.parametrize(
    ("pad", "expected"),
    [(0, ["Cast", "Conv", "Relu"]), (1, ["Cast", "Add", "Conv", "Relu"])],
    ids=["no padding", "zero padding"],
)
def test_raw_bytes_go_in_and_the_answers_stay(pad: int, expected: list[str]) -> None:
    """Zero padding is zero after normalization, so the shift may not pass it: one Add stays, exactly."""
    source = network(pad)
    result = bnfold.fold(
        source, input_mean={"x": MEAN}, input_std={"x": STD}, uint8_inputs=["x"], progress=False
    )
    assert result.report.verdict is Verdict.PASS, result.report.summary
    assert operators(result) == expected
    assert result.model().graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    expected_answer = answer(source.SerializeToString(), normalized(raw()))
    np.testing.assert_allclose(answer(result.artifact or b"", raw()), expected_answer, rtol=1e-4, atol=1e-4)
    assert any("raw uint8" in note for note in result.report.source.notes)
    (told,) = result.report.preprocessing
    assert (told.input, told.into, told.decision) == ("x", ["c"], "folded")
    sentence = "its shift stays as nodes (padded_shift" if pad else "went into c"
    assert any(sentence in note for note in result.report.source.notes)
    assert told.certificate is not None
    assert told.certificate.holds
    assert told.reason == ("padded_shift" if pad else None)
    assert not result.report.batch_norms
    assert result.report.graph.batch_norms_after == 0


@pytest.mark.parametrize("given", [{"input_mean": {"x": 127.5}}, {"input_std": {"x": [255.0]}}])
def test_one_number_for_all_channels_and_floats_in(given: dict[str, Any]) -> None:
    source = network()
    result = bnfold.fold(source, **given, progress=False)
    assert result.report.verdict is Verdict.PASS
    assert operators(result) == ["Conv", "Relu"]
    x = raw().astype(np.float32)
    mean, std = given.get("input_mean", {"x": 0.0})["x"], given.get("input_std", {"x": [1.0]})["x"]
    expected = answer(source.SerializeToString(), ((x - mean) / np.float32(std)).astype(np.float32))
    np.testing.assert_allclose(answer(result.artifact or b"", x), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "before",
    [
        constants(m=127.5, s=58.0) + "a = Sub(x, m)  b = Div(a, s)",
        constants(s=0.00392) + "b = Mul(x, s)",
        constants(s=0.0078, o=-1.0) + "a = Mul(x, s)  b = Add(a, o)",
    ],
    ids=["Sub, Div", "Rescaling", "Rescaling with offset"],
)
def test_what_the_graph_holds_already_goes_into_the_first_layer(before: str) -> None:
    result = bnfold.fold(network(before=before), progress=False)
    assert (operators(result), result.report.verdict) == (["Conv", "Relu"], Verdict.PASS)


def test_a_wrong_mean_in_the_artifact_fails() -> None:
    """The verdict compares with the source behind the preprocessing that was asked for."""
    mean = [MEAN[0], MEAN[1] + 1.0, MEAN[2]]
    source = network()
    right = bnfold.fold(source, input_mean={"x": MEAN}, progress=False)
    wrong = bnfold.fold(source, input_mean={"x": mean}, progress=False)
    assert bnfold.verify(right.artifact or b"", wrong.artifact or b"", progress=False).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"input_mean": {"z": 1.0}}, "unknown_input"),
        ({"input_mean": {"x": [1.0, 2.0]}}, "input_preprocessing"),
        ({"input_std": {"x": [1.0, 0.0, 1.0]}}, "input_preprocessing"),
        ({"input_mean": {"x": 1e39}}, "input_preprocessing"),
    ],
)
def test_numbers_that_do_not_fit_are_refused_by_code(given: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        bnfold.fold(network(), **given, progress=False)
    assert caught.value.error_code == code


def test_only_floats_are_normalized() -> None:
    text = '<ir_version: 8, opset_import: ["": 18]> g (int64[N, 3] x) => (int64[N, 3] y) { y = Neg(x) }'
    with pytest.raises(UsageError) as caught:
        bnfold.fold(parser.parse_model(text), uint8_inputs=["x"], progress=False)
    assert caught.value.error_code == "input_preprocessing"


class Doubling:
    """A source's own runtime: y = 2 x, and one layer that reads x."""

    name, precision, judged, deployed = "doubling", "float32", True, None

    def run(self, feeds: Feeds) -> Feeds:
        return {"y": 2 * feeds["x"]}

    def layers(self, feeds: Feeds) -> Sequence[SourceLayer]:
        return [SourceLayer("y", "Mul", 2 * feeds["x"], ("x", "other"), None, None)]

    def close(self) -> None:
        pass


def test_the_sources_own_runtime_is_given_normalized_values() -> None:
    model = ir.serde.deserialize_model(network())
    imported = Imported(model, SourceReport(format="onnx", framework="test"), reference=Doubling())
    prepend(imported, FoldOptions(input_mean={"x": MEAN}, input_std={"x": STD}, uint8_inputs=["x"]))
    assert isinstance(imported.reference, PreprocessedLayers)
    expected = 2 * normalized(raw())
    np.testing.assert_allclose(imported.reference.run({"x": raw()})["y"], expected, rtol=1e-5, atol=1e-6)
    (layer,) = imported.reference.layers({"x": raw()})
    np.testing.assert_allclose(layer.value, expected, rtol=1e-5, atol=1e-6)
    assert layer.reads == ("x/normalized", "other")
    assert "x/normalized" in {value.name for node in model.graph for value in node.outputs}
