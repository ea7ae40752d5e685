"""Fixed shapes of the artifact's inputs: what is set, what stays symbolic, what does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import folding
from folding.errors import UsageError
from folding.options import FoldOptions
from folding.report import Verdict
from tests.unit.folding.verify.models import array, write

TEXT = """g (float[N,3,H,W] x) => (float[N,4,H,W] y) {
    c = Conv<pads=[1,1,1,1]>(x, w) y = BatchNormalization(c, gamma, beta, mean, variance) }"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    stats = {name: array(4, salt=i) for i, name in enumerate(("gamma", "beta", "mean"))}
    return write(tmp_path / "m.onnx", TEXT, w=array(4, 3, 3, 3), variance=np.abs(array(4)) + 0.5, **stats)


def dims(path: Path) -> tuple[list[int | str], list[int | str]]:
    graph = onnx.load(path).graph
    sides = [
        [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (graph.input[0], graph.output[0])
    ]
    return sides[0], sides[1]


@pytest.mark.parametrize(
    ("asked", "inputs", "outputs"),
    [
        ([1, 3, 16, 12], [1, 3, 16, 12], [1, 4, 16, 12]),
        ([None, 3, 16, 12], ["N", 3, 16, 12], ["N", 4, 16, 12]),
        (["batch", 3, 16, 12], ["batch", 3, 16, 12], ["N", 4, 16, 12]),
        ([2, None, "H", "W"], [2, 3, "H", "W"], [2, 4, "H", "W"]),
    ],
)
def test_sizes_are_fixed_and_verified(
    model: Path,
    tmp_path: Path,
    asked: list[int | str | None],
    inputs: list[int | str],
    outputs: list[int | str],
) -> None:
    artifact = tmp_path / "out.onnx"
    report = folding.fold(model, artifact, FoldOptions(artifact_inputs={"x": asked}))
    assert report.verdict is Verdict.PASS, report.summary
    assert dims(artifact) == (inputs, outputs)
    for probe in report.probes:
        shape = probe["inputs"]["x"]["shape"]
        assert all(size == want for size, want in zip(shape, inputs, strict=True) if isinstance(want, int))


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"x": [1, 4, 16, 16]}, "input_shape"),
        ({"x": [1, 3, 16]}, "input_shape"),
        ({"x": [-1, 3, 16, 16]}, "input_shape"),
        ({"y": [1, 3, 16, 16]}, "unknown_input"),
    ],
)
def test_what_does_not_fit_is_refused(
    model: Path, tmp_path: Path, asked: dict[str, list[int | str | None]], code: str
) -> None:
    with pytest.raises(UsageError) as caught:
        folding.fold(model, tmp_path / "out.onnx", FoldOptions(artifact_inputs=asked))
    assert caught.value.error_code == code
