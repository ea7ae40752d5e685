"""ONNX graphs that runtimes accept and that are easily spoilt on the way through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import folding
from tests.support.numbers import running_rng


def save(path: Path, nodes: list[onnx.NodeProto], arrays: dict[str, np.ndarray], shape: list[int]) -> Path:
    """A model x -> y whose output declares no shape."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def norm_arrays(channels: int) -> dict[str, np.ndarray]:
    return {
        name: running_rng().uniform(0.5, 1.5, channels).astype(np.float32)
        for name in ("gamma", "beta", "mean", "var")
    }


def test_training_mode_keeps_all_outputs_of_the_operator(tmp_path: Path) -> None:
    arrays = {**norm_arrays(4), "w": running_rng().normal(size=(4, 3, 1, 1)).astype(np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"]),
        helper.make_node(
            "BatchNormalization", ["h", "gamma", "beta", "mean", "var"], ["y", "m1", "v1"], training_mode=1
        ),
    ]
    report = folding.fold(save(tmp_path / "m.onnx", nodes, arrays, [2, 3, 5, 5]), tmp_path / "out.onnx")

    assert report.verdict is folding.Verdict.PASS, report.summary
    [norm] = report.batch_norms
    assert (norm.decision, norm.reason) == ("kept", "training_mode")
    [kept] = [n for n in onnx.load(tmp_path / "out.onnx").graph.node if n.op_type == "BatchNormalization"]
    assert len(kept.output) == 3


def test_a_loop_whose_output_has_no_shape(tmp_path: Path) -> None:
    arrays = {
        **norm_arrays(4),
        "w": running_rng().normal(size=(4, 4, 1, 1)).astype(np.float32) * np.float32(0.5),
        "trips": np.array(3, np.int64),
        "go": np.array(True),
    }
    body = helper.make_graph(
        [
            helper.make_node("Conv", ["s", "w"], ["c"]),
            helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["t"]),
            helper.make_node("Identity", ["cond"], ["cond_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("cond", TensorProto.BOOL, []),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, [2, 4, 5, 5]),
        ],
        [
            helper.make_tensor_value_info("cond_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("t", TensorProto.FLOAT, [2, 4, 5, 5]),
        ],
    )
    nodes = [helper.make_node("Loop", ["trips", "go", "x"], ["y"], body=body)]
    report = folding.fold(save(tmp_path / "m.onnx", nodes, arrays, [2, 4, 5, 5]), tmp_path / "out.onnx")

    assert report.verdict is folding.Verdict.PASS, report.summary
    assert [norm.decision for norm in report.batch_norms] == ["folded"]
