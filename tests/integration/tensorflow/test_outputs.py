"""Outputs that nobody named: over every fixture, what its expect.json calls the outputs, and no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from folding import pipeline
from folding.errors import AmbiguousModel, UnsupportedModel
from folding.options import FoldOptions
from folding.sources.tensorflow import checkpoint, graphdef
from folding.sources.unpack import open_upload
from tests.integration.tensorflow import tf1
from tests.support.paths import TF1_PROGRAMS

# embeddings and their distance are all read on the way to a contrastive loss: the last value before it
INNER = {"tf1_shared_bn_towers": ({"Sqrt:0"}, {"distance:0"})}
pytestmark = pytest.mark.filterwarnings("ignore")
BARE = [case for case in tf1.cases() if case.kind in ("checkpoint", "frozen_pb")]


@pytest.mark.parametrize("case", BARE, ids=lambda case: case.id)
def test_outputs_are_the_expected_ones(case: tf1.Case, tmp_path: Path) -> None:
    upload = open_upload(TF1_PROGRAMS / case.fixture / case.path, tmp_path)
    source = checkpoint if case.kind == "checkpoint" else graphdef
    program = source.FORMAT.program(upload, FoldOptions())
    wanted = {output["name"] for output in tf1.expected(case.fixture)["outputs"]}
    found = {port.name for port in program.outputs}
    assert found in INNER.get(case.fixture, (wanted,))


def test_candidates_are_listed_where_it_cannot_be_told(tmp_path: Path) -> None:
    from folding.sources.tensorflow.graph.runtime import tensorflow

    v1 = tensorflow().compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder("float32", [None, 4], "x")
        w = v1.get_variable("w", [4, 4], use_resource=False)
        left, right = v1.tanh(x @ w, "left"), v1.sin(x @ w, "right")
        v1.train.AdamOptimizer().minimize(v1.reduce_mean(left) + v1.reduce_mean(right))
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    with pytest.raises(AmbiguousModel) as caught:
        pipeline.fold(tmp_path, tmp_path / "out.onnx", FoldOptions())
    assert caught.value.error_code == "ambiguous_outputs"
    assert set(caught.value.details["candidates"]) == {left.name, right.name}


def test_a_saved_model_without_signature(tmp_path: Path) -> None:
    """TensorFlow 1's builder asked for none; one of TensorFlow 2 that holds no function either is refused."""
    from folding.sources.tensorflow.graph.runtime import tensorflow
    from tests.integration.tensorflow.training import Trainer

    tf = tensorflow()
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        m = Trainer(tf, np.random.default_rng(1))
        m.out(m.bn(m.dense(m.x(6), 5, "d"), m.norm(5)))
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(tmp_path / "one"))
        builder.add_meta_graph_and_variables(session, ["serve"])
        builder.save()
    report = pipeline.fold(tmp_path / "one", tmp_path / "out.onnx", FoldOptions())
    assert report.verdict.value == "pass", report.summary
    assert [norm.decision for norm in report.batch_norms] == ["folded"]
    assert [output.name for output in report.source.outputs] == ["out:0"]
    assert [a.what for a in report.source.assumptions] == ["signature"]
    module = tf.Module()
    module.w = tf.Variable([1.0])
    tf.saved_model.save(module, str(tmp_path / "two"))
    with pytest.raises(UnsupportedModel) as caught:
        pipeline.fold(tmp_path / "two", tmp_path / "out.onnx", FoldOptions())
    assert caught.value.error_code == "no_signature"
