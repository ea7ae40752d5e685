"""Training graphs: outputs found without being named, modes settled, norms folded, equal to TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from folding import pipeline
from folding.options import FoldOptions
from folding.sources.tensorflow.graph.runtime import tensorflow
from tests.integration.tensorflow import artifacts
from tests.integration.tensorflow.training import PROGRAMS

pytestmark = pytest.mark.filterwarnings("ignore")


def _data(tf: Any, tensor: Any, rng: np.random.Generator) -> np.ndarray:
    if tensor.dtype == tf.bool:
        return np.asarray(True)
    shape = [4 if dim is None else dim for dim in tensor.shape.as_list()]
    return rng.normal(size=shape).astype(np.float32)


def _save(name: str, folder: Path) -> tuple[Any, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The program, what it was fed, and what TensorFlow answered."""
    tf = tensorflow()
    v1 = tf.compat.v1
    rng = np.random.default_rng(sum(map(ord, name)))
    v1.disable_control_flow_v2()
    try:
        with v1.Graph().as_default(), v1.Session() as session:
            made = PROGRAMS[name](tf, rng)
            session.run(v1.global_variables_initializer())
            session.run(v1.tables_initializer())
            v1.train.Saver().save(session, str(folder / "model.ckpt"))
            feeds = {tensor.name: _data(tf, tensor, rng) for tensor in made.inputs}
            wanted = session.run({t.name: t for t in made.outputs}, {**feeds, **made.flags})
    finally:
        v1.enable_control_flow_v2()
    return made, feeds, wanted


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_training_graph(name: str, tmp_path: Path) -> None:
    made, feeds, wanted = _save(name, tmp_path)
    report = pipeline.fold(tmp_path / "model.ckpt", tmp_path / "out.onnx", FoldOptions())
    assert report.verdict.value == "pass", report.summary
    assert report.source.route == "structure-first"
    assert {output.name for output in report.source.outputs} == set(wanted)
    assert {given.name for given in report.source.inputs} == set(feeds)
    assert [norm.decision for norm in report.batch_norms] == ["folded"] * made.norms, report.batch_norms
    for output, result in artifacts.run(tmp_path / "out.onnx", feeds).items():
        if result.dtype.kind == "f":
            # float32 sums of up to nine products of order one, through up to three layers
            np.testing.assert_allclose(result, wanted[output], rtol=1e-4, atol=1e-4)
        else:
            assert result.tolist() == [item.decode() for item in wanted[output]]


def test_a_cut_pipeline_is_an_assumption(tmp_path: Path) -> None:
    _save("iterator", tmp_path)
    report = pipeline.fold(tmp_path / "model.ckpt", tmp_path / "out.onnx", FoldOptions())
    (row,) = [a for a in report.source.assumptions if a.what == "IteratorGetNext"]
    assert row.value == "inputs IteratorGetNext:0"
    assert "iterator over a data set" in row.why
