"""How weights are detached: old files list them as inputs, sparse ones are stored by index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from folding.report import Verdict
from folding.verify.model import load
from tests.unit.folding.verify.models import array, check, write

TEXT = "g (float[N,3,6,6] x) => (float[N,4,4,4] y) { c = Conv(x, w) y = BatchNormalization(c, a, b, m, v) }"


def weights() -> dict[str, np.ndarray]:
    norm = {"a": array(4), "b": array(4), "m": array(4), "v": np.abs(array(4)) + 0.5}
    return {"w": array(4, 3, 3, 3), **norm}


def listed(path: Path, ir_version: int) -> Path:
    """The same file with every initializer among the inputs."""
    model = onnx.load_model(str(path))
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    model.ir_version = ir_version
    onnx.save_model(model, str(path))
    return path


def test_listed_initializers_of_an_old_file_are_weights(tmp_path: Path) -> None:
    path = listed(write(tmp_path / "m.onnx", TEXT, opset=9, **weights()), 3)
    loaded = load(path)
    assert set(loaded.weights) == {"w", "a", "b", "m", "v"}
    assert [value.name for value in loaded.inputs] == ["x"]
    found = check(path, path)
    assert found.verdict is Verdict.PASS, found.summary
    assert not any(row.outputs and row.outputs[0].tolerance.atol == 0 for row in found.rows)


def test_listed_initializers_of_a_newer_file_may_be_overridden(tmp_path: Path) -> None:
    path = listed(write(tmp_path / "m.onnx", TEXT, opset=13, **weights()), 8)
    loaded = load(path)
    assert not loaded.weights
    assert [value.name for value in loaded.inputs] == ["x"]


def test_sparse_initializers_are_dense_weights(tmp_path: Path) -> None:
    dense = weights()
    path = write(tmp_path / "m.onnx", TEXT, opset=13, **dense)
    model = onnx.load_model(str(path))
    kept = [tensor for tensor in model.graph.initializer if tensor.name != "b"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    values = numpy_helper.from_array(np.array([0.5, -2.0], np.float32), "b")
    indices = numpy_helper.from_array(np.array([1, 3]), "b_indices")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    model.graph.input.append(helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, [4]))
    model.ir_version = 3
    onnx.save_model(model, str(path))
    loaded = load(path)
    assert [value.name for value in loaded.inputs] == ["x"]
    assert loaded.weights["b"].tolist() == [0, 0.5, 0, -2.0]
