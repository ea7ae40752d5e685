"""Other names and layouts of inputs and outputs: the same numbers behind them, and the reference follows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import folding
from folding.errors import UsageError
from folding.ir.types import Feeds
from folding.options import FoldOptions
from folding.ort import OrtSession
from folding.report import Verdict
from folding.sources.interface import TO_NCHW, TO_NHWC, Adapted, Interface
from tests.unit.folding.verify.models import array, write

TEXT = """g (float[N,8,6,3] image) => (float[N,8,6,4] mask) {
    x = Transpose<perm=[0,3,1,2]>(image) c = Conv<pads=[1,1,1,1]>(x, w)
    n = BatchNormalization(c, gamma, beta, mean, variance) mask = Transpose<perm=[0,2,3,1]>(n) }"""
ALL = FoldOptions(
    rename_inputs={"image": "pixels"},
    rename_outputs={"mask": "classes"},
    inputs_as_nchw=["image"],
    outputs_as_nchw=["mask"],
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    stats = {name: array(4, salt=i) for i, name in enumerate(("gamma", "beta", "mean"))}
    return write(tmp_path / "m.onnx", TEXT, w=array(4, 3, 3, 3), variance=np.abs(array(4)) + 0.5, **stats)


def test_names_and_layouts_change_and_the_numbers_do_not(model: Path, tmp_path: Path) -> None:
    artifact = tmp_path / "out.onnx"
    report = folding.fold(model, artifact, ALL)
    assert report.verdict is Verdict.PASS, report.summary
    graph = onnx.load(artifact).graph
    assert [value.name for value in graph.input] == ["pixels"]
    assert [value.name for value in graph.output] == ["classes"]
    assert {node.op_type for node in graph.node} == {"Conv"}  # both transposes met their inverse
    x = array(2, 8, 6, 3)
    expected = OrtSession(model).run({"image": x})["mask"]
    found = OrtSession(artifact).run({"pixels": x.transpose(TO_NCHW)})["classes"]
    assert np.allclose(found.transpose(TO_NHWC), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"rename_inputs": {"other": "x"}}, "unknown_input"),
        ({"rename_outputs": {"image": "x"}}, "unknown_output"),
        ({"rename_inputs": {"image": "mask"}}, "usage"),
        ({"rename_inputs": {"image": ""}}, "usage"),
        ({"inputs_as_nchw": ["mask"]}, "unknown_input"),
    ],
)
def test_what_does_not_fit_is_refused(
    model: Path, tmp_path: Path, options: dict[str, object], code: str
) -> None:
    with pytest.raises(UsageError) as caught:
        folding.fold(model, tmp_path / "out.onnx", FoldOptions(**options))
    assert caught.value.error_code == code


def test_only_images_are_turned(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", "g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }")
    with pytest.raises(UsageError, match="rank 2"):
        folding.fold(path, tmp_path / "out.onnx", FoldOptions(inputs_as_nchw=["x"]))


def test_an_input_that_is_also_an_output_keeps_both(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", "g (float[1,2,3,4] x) => (float[1,2,3,4] y) { y = Identity(x) }")
    report = folding.fold(path, tmp_path / "out.onnx", FoldOptions(inputs_as_nchw=["x"]))
    assert report.verdict is Verdict.PASS, report.summary
    x = array(1, 2, 3, 4)
    found = OrtSession(tmp_path / "out.onnx").run({"x": x.transpose(TO_NCHW)})["y"]
    assert np.array_equal(found, x)


def test_the_sources_runtime_is_asked_in_its_own_words() -> None:
    class Source:
        name, precision = "source", "float32"

        def run(self, feeds: Feeds) -> Feeds:
            return {"mask": feeds["image"] * 2}

        def close(self) -> None:
            pass

    told = Interface({"pixels": "image"}, {"classes": "mask"}, frozenset({"pixels"}), frozenset({"classes"}))
    x = array(1, 2, 3, 4)
    found = Adapted(Source(), told).run({"pixels": x.transpose(TO_NCHW)})
    assert np.array_equal(found["classes"], 2 * x.transpose(TO_NCHW))
