"""What every route says to input that it cannot take: class and code, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import folding
from folding.errors import BnfoldError
from tests.support.paths import TF1_PROGRAMS


def onnx_model(op: str = "Relu", domain: str = "") -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    weight = numpy_helper.from_array(np.eye(3, dtype=np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node(op, ["h"], ["y"], domain=domain)]
    graph = helper.make_graph(nodes, "g", [x], [y], [weight])
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def frozen() -> bytes:
    return (TF1_PROGRAMS / "s003_oo" / "frozen.pb").read_bytes()


CASES: dict[str, tuple[str, bytes, set[str]]] = {
    # name: (file name, bytes, acceptable codes)
    "empty file": ("model.onnx", b"", {"unknown_format", "empty_file", "corrupt_model"}),
    "not a model": ("model.onnx", b"hello world, this is not a model" * 9, {"unknown_format"}),
    "truncated onnx": ("model.onnx", onnx_model()[:-40], {"corrupt_model", "onnx_unreadable"}),
    "an op that nobody knows": (
        "model.onnx",
        onnx_model("Frobnicate"),
        {"unknown_op"},
    ),
    "an op of a foreign domain": (
        "model.onnx",
        onnx_model("Frobnicate", "acme"),
        {"unknown_op"},
    ),
    "truncated frozen graph": ("model.pb", b"", {"corrupt_protobuf"}),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_named_error_and_nothing_left(case: str, tmp_path: Path) -> None:
    name, content, codes = CASES[case]
    if case == "truncated frozen graph":
        content = frozen()[:-100]
    source, out = tmp_path / name, tmp_path / "out" / "model.onnx"
    source.write_bytes(content)
    out.parent.mkdir()

    with pytest.raises(BnfoldError) as caught:
        folding.fold(source, out)

    error = caught.value
    assert error.error_code in codes, error.message
    assert error.exit_code == 4
    assert error.message
    assert error.hint
    assert list(out.parent.iterdir()) == []
    assert source.read_bytes() == content


def test_missing_output_lists_the_candidates(tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(onnx_model())

    with pytest.raises(BnfoldError) as caught:
        folding.fold(source, tmp_path / "out.onnx", folding.FoldOptions(outputs=["nope"]))

    assert caught.value.exit_code == 2
    assert "nope" in caught.value.message
    assert "y" in caught.value.details["candidates"]


def test_no_batch_norm_is_fine(tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(onnx_model())

    report = folding.fold(source, tmp_path / "out.onnx")

    assert report.verdict is folding.Verdict.PASS, report.summary
    assert report.batch_norms == []
    onnx.checker.check_model(onnx.load(tmp_path / "out.onnx"), full_check=True)
