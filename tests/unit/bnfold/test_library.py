"""`import bnfold`: models in memory, artifacts gated by the verdict, errors of our own."""

from __future__ import annotations

import importlib
import inspect as signatures
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.results import summary


def network(updated: bool = True) -> onnx.ModelProto:
    """Conv, BatchNormalization, Relu."""
    rng = np.random.default_rng(7)
    statistics = {
        "mean": rng.normal(size=4) if updated else np.zeros(4),
        "var": rng.uniform(0.5, 2.0, 4) if updated else np.ones(4),
        "gamma": rng.uniform(0.5, 1.5, 4),
        "beta": rng.normal(size=4),
    }
    weights = {"w": rng.normal(size=(4, 3, 3, 3)), **statistics}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["b"]),
            helper.make_node("Relu", ["b"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 6, 6])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def on_disk(folder: Path) -> Path:
    path = folder / "net.onnx"
    onnx.save(network(), path)
    return path


FORMS: dict[str, Any] = {
    "path": on_disk,
    "text": lambda folder: str(on_disk(folder)),
    "bytes": lambda folder: network().SerializeToString(),
    "onnx.ModelProto": lambda folder: network(),
    "onnx_ir.Model": lambda folder: ir.from_proto(network()),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_model_is_folded(form: str, tmp_path: Path) -> None:
    result = bnfold.fold(FORMS[form](tmp_path))
    assert result
    assert result.verdict is bnfold.Verdict.PASS
    assert [node.op_type for node in result.model().graph.node] == ["Conv", "Relu"]
    assert result.artifact is not None
    assert result.path is None
    expected = bnfold.fold(network())
    if form != "onnx_ir.Model":  # its writer orders initializers by itself
        assert result.report.artifact == expected.report.artifact


def test_the_artifact_goes_to_its_place(tmp_path: Path) -> None:
    result = bnfold.fold(network(), tmp_path / "out.onnx")
    assert result.path == tmp_path / "out.onnx"
    assert result.path.read_bytes() == result.artifact
    assert [path.name for path in tmp_path.iterdir()] == ["out.onnx"], "nothing else is left"


def test_an_artifact_that_did_not_pass_is_not_written_unless_asked(tmp_path: Path) -> None:
    unverified = bnfold.fold(network(), tmp_path / "a.onnx", verify=False)
    assert not unverified
    assert not (tmp_path / "a.onnx").exists()
    with pytest.raises(bnfold.VerificationFailed, match="not shown"):
        unverified.save(tmp_path / "b.onnx")
    assert unverified.save(tmp_path / "c.onnx", rejected=True).exists()
    asked = bnfold.fold(network(), tmp_path / "d.onnx", verify=False, write_rejected=True)
    assert asked.path == tmp_path / "d.onnx"


def test_it_prints_ten_lines_and_html() -> None:
    result = bnfold.fold(network(updated=False))
    lines = str(result).splitlines()
    assert 5 <= len(lines) <= 10
    assert lines[0] == (
        "pass: Equivalent, but the model looks untrained: the only batch norm was never updated"
    )
    assert str(result.report) == str(result)
    html = result.report._repr_html_()
    assert "#7a5200" in html, "amber"
    assert "never updated" in html
    assert summary(result.report) == lines


def test_names_from_a_model_cannot_reach_the_terminal_or_the_page() -> None:
    model = network()
    model.graph.input[0].name = model.graph.node[0].input[0] = "x\x1b[31m<b>"
    inspected = str(bnfold.inspect(model))
    assert "\x1b" not in inspected
    assert "<b>" not in bnfold.fold(model)._repr_html_()


def test_inspect_has_the_arrays() -> None:
    found = bnfold.inspect(network())
    name = found.inspection.batch_norms[0].name
    assert found.statistics[f"{name}/moving_mean"].shape == (4,)
    assert "healthy" in str(found)


def test_verify_compares_models_in_memory() -> None:
    artifact = bnfold.fold(network()).artifact
    assert bnfold.verify(network(), artifact)
    wrong = network()
    wrong.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(wrong.graph.initializer[0]) * 1.01, "w")
    )
    assert not bnfold.verify(wrong, artifact)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bnfold.fold(3), "builtins.int"),
        (lambda: bnfold.fold(network(), opsett=17), "no option `opsett`"),
        (lambda: bnfold.fold(network(), opset="many"), "option `opset`"),
        (lambda: bnfold.fold(network(), options={"opset": 17}), "not a FoldOptions"),
        (lambda: bnfold.fold(network(), "/no/such/folder/a.onnx"), "no folder"),
        (lambda: bnfold.fold(network(), probe=[1, 2]), "not a mapping"),
        (lambda: bnfold.verify(network(), None), "the model `b`"),
    ],
)
def test_wrong_arguments_are_named(call: Any, words: str) -> None:
    with pytest.raises(bnfold.UsageError, match=words):
        call()


def test_options_and_overrides_come_together() -> None:
    options = bnfold.FoldOptions(opset=18, seed=3)
    report = bnfold.fold(network(), options=options, opset=17).report
    assert report.options == {"opset": 17, "seed": 3}


def test_progress_events_reach_a_callable() -> None:
    stages: list[str] = []
    bnfold.fold(network(), progress=lambda event: stages.append(event.stage))
    assert stages[0] == "read"
    assert "verify" in stages


def test_dir_shows_what_there_is_and_signatures_match() -> None:
    assert set(bnfold.__all__) == set(dir(bnfold))
    for name in bnfold.__all__:
        assert getattr(bnfold, name) is not None
    api = importlib.import_module("bnfold.api")
    for name in ("fold", "inspect", "verify"):
        assert signatures.signature(getattr(bnfold, name)) == signatures.signature(getattr(api, name))
