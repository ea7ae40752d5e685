"""The page that follows one fold through the code shows the values that the code computes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

import bnfold
from folding import norms
from folding.sources.onnx import importer

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/explanation/one-fold.md").read_text(encoding="utf-8")
WEIGHTS = {
    "w": [[[[1.0]], [[2.0]]], [[[0.5]], [[-1.0]]]],
    "gamma": [1.0, 2.0],
    "beta": [0.5, 0.0],
    "mean": [1.0, -1.0],
    "variance": [3.75, 0.75],
}


def network() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node(
            "BatchNormalization", ["c", "gamma", "beta", "mean", "variance"], ["y"], name="bn", epsilon=0.25
        ),
    ]
    tensors = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in WEIGHTS.items()]
    infos = [helper.make_tensor_value_info(name, 1, ["N", 2, 4, 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "one", infos[:1], infos[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_every_file_on_the_page_exists() -> None:
    paths = re.findall(r"`((?:folding|tests)/[\w./-]+)`", PAGE)
    assert len(set(paths)) > 20
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_affine_of_the_norm() -> None:
    import onnx_ir as ir

    (norm,) = norms.find(ir.from_proto(network()))
    assert norm.affine is not None
    assert norm.affine.scale.tolist() == [0.5, 2.0]
    assert norm.affine.shift.tolist() == [0.0, 2.0]
    assert "= [0.5, 2]\n" in PAGE
    assert "= [0, 2]\n" in PAGE
    assert importer.FORMAT.name == "onnx"


def test_the_weights_and_the_report() -> None:
    result = bnfold.fold(network())
    tensors = {item.name: numpy_helper.to_array(item) for item in result.model().graph.initializer}
    assert tensors["w"].reshape(2, 2).tolist() == [[0.5, 1.0], [1.0, -2.0]]
    assert tensors["conv/bias"].tolist() == [0.0, 2.0]
    (norm,) = result.report.batch_norms
    assert norm.health[0].evidence in PAGE.replace("\n", " ")
    assert (norm.decision, norm.direction, norm.into) == ("folded", "into_producer", ["conv"])
    assert norm.certificate is not None
    assert norm.certificate.max_relative_rounding == 0.0
    assert norm.certificate.bound == 2.0**-24
    assert (result.report.graph.nodes_before, result.report.graph.nodes_after) == (2, 1)
    assert str(result).splitlines()[0] in PAGE
    whole = [row for row in result.report.verification if "layer by layer" not in row.reference]
    assert len(whole) == 4
    assert all(row.status == "pass" for row in result.report.verification)
