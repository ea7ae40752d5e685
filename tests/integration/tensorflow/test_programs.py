"""Programs made on the spot, as checkpoint, frozen graph and SavedModel: folded, equal to TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from folding import pipeline
from folding.options import FoldOptions
from folding.sources.tensorflow.graph.runtime import tensorflow
from tests.integration.tensorflow.programs import PROGRAMS

# Nothing linear lies behind these norms to take them in whole
KEPT: set[str] = set()


class Saved:
    """One program, run once in TensorFlow and saved in every form."""

    def __init__(self, name: str, folder: Path) -> None:
        tf = tensorflow()
        v1 = tf.compat.v1
        rng = np.random.default_rng(sum(map(ord, name)))
        self.folder, graph = folder, v1.Graph()
        v1.disable_control_flow_v2()  # as TensorFlow 1 was; the builders of v2 programs switch it on
        try:
            self._make(tf, v1, graph, name, rng)
        finally:
            v1.enable_control_flow_v2()

    def _make(self, tf: Any, v1: Any, graph: Any, name: str, rng: np.random.Generator) -> None:
        folder = self.folder
        with graph.as_default():
            inputs, outputs, flags = PROGRAMS[name](tf, rng)
            self.feeds = {tensor.name: _data(tf, tensor, rng) for tensor in inputs}
            self.outputs = [tensor.name for tensor in outputs]
            with v1.Session() as session:
                session.run(v1.global_variables_initializer())
                self.wanted = session.run(outputs, {**self.feeds, **flags})
                v1.train.Saver().save(session, str(folder / "model.ckpt"))
                names = [tensor.op.name for tensor in outputs]
                try:
                    frozen = v1.graph_util.convert_variables_to_constants(
                        session, graph.as_graph_def(), names
                    )
                    (folder / "frozen.pb").write_bytes(frozen.SerializeToString())
                except ValueError:  # TensorFlow's own freezing gives up on some v2 control flow
                    self.frozen = False
                keyed = {tensor.name.split(":")[0]: tensor for tensor in inputs}
                results = {tensor.name.split(":")[0]: tensor for tensor in outputs}
                v1.saved_model.simple_save(session, str(folder / "saved"), keyed, results)


def _data(tf: Any, tensor: Any, rng: np.random.Generator) -> np.ndarray:
    shape = [4 if dim is None else dim for dim in tensor.shape.as_list()]
    if tensor.dtype == tf.bool:
        return np.asarray(True)
    if tensor.dtype == tf.string:
        return np.array(["a", "bb", "c", "d"], object)
    if tensor.dtype == tf.int32:
        return rng.integers(0, 20, shape).astype(np.int32)
    return rng.normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module", params=sorted(PROGRAMS))
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Saved]:
    return request.param, Saved(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("form", ["model.ckpt", "frozen.pb", "saved"])
@pytest.mark.filterwarnings("ignore")
def test_program(saved: tuple[str, Saved], form: str, tmp_path: Path) -> None:
    _, program = saved
    if form == "frozen.pb" and not (program.folder / form).exists():
        pytest.skip("TensorFlow itself does not freeze this program")
    options = FoldOptions(outputs=[] if form == "saved" else program.outputs)
    report = pipeline.fold(program.folder / form, tmp_path / "out.onnx", options)
    assert report.verdict.value == "pass", report.summary
    assert report.source.route == "structure-first"
    assert report.batch_norms
    assert all(norm.decision == "folded" for norm in report.batch_norms), report.batch_norms
    assert {norm.name.split("/")[0] for norm in report.batch_norms} <= {"bn", "bn2"}
    _same(program, tmp_path / "out.onnx")


def _same(program: Saved, artifact: Path) -> None:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(artifact), settings, providers=["CPUExecutionProvider"])
    plain = {name.split(":")[0]: value for name, value in program.feeds.items()}
    feeds = {value.name: plain[value.name.split(":")[0]] for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    got = {name.split(":")[0]: value for name, value in zip(names, session.run(names, feeds), strict=True)}
    for name, wanted in zip(program.outputs, program.wanted, strict=True):
        result = got[name.split(":")[0]]
        if wanted.dtype.kind == "f":
            # float32 sums of up to 54 products of order one, in two orders
            np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-4)
        else:
            assert result.tolist() == [item.decode() for item in wanted]


@pytest.mark.filterwarnings("ignore")
def test_a_flag_can_be_overridden(tmp_path: Path) -> None:
    """--feed beats the assumption: in training mode the statistics are the batch's."""
    program = Saved("nameless_flag", tmp_path)
    report = pipeline.fold(
        tmp_path / "model.ckpt", tmp_path / "out.onnx", FoldOptions(outputs=["out:0"], feeds={"f:0": True})
    )
    assert [h.code.value for h in report.batch_norms[0].health] == ["batch_statistics_at_inference"]
    assert [(a.what, a.value) for a in report.source.assumptions] == [("f:0", "True")]
    assert program.outputs == ["out:0"]


@pytest.mark.filterwarnings("ignore")
def test_assumptions_name_the_flag_the_value_and_the_override(tmp_path: Path) -> None:
    Saved("nameless_flag", tmp_path)
    report = pipeline.fold(tmp_path / "model.ckpt", tmp_path / "out.onnx", FoldOptions(outputs=["out:0"]))
    (assumption,) = report.source.assumptions
    assert (assumption.what, assumption.value) == ("f:0", "False")
    assert "stored statistics" in assumption.why
    assert assumption.override == "--feed f:0=VALUE"


@pytest.mark.filterwarnings("ignore")
def test_the_op_of_2015(tmp_path: Path) -> None:
    """BatchNormWithGlobalNormalization, with and without scaling, as a graph of its own time."""
    tf = tensorflow()
    v1 = tf.compat.v1
    rng = np.random.default_rng(3)
    for scaled in (True, False):
        with v1.Graph().as_default() as graph:
            x = v1.placeholder("float32", [None, 6, 6, 2], "x")
            w = rng.normal(size=(3, 3, 2, 3)).astype(np.float32)
            h = v1.nn.conv2d(x, v1.constant(w, name="w"), [1, 1, 1, 1], "SAME", name="conv")
            arrays = [rng.uniform(0.5, 1.5, 3).astype(np.float32) for _ in range(4)]
            mean, variance, beta, gamma = (
                v1.constant(a, name=n)
                for a, n in zip(arrays, ("mean", "variance", "beta", "gamma"), strict=True)
            )
            v1.nn.batch_normalization(h, mean, variance, beta, gamma if scaled else None, 0.01)
        node_names = {"x", "w", "conv", "mean", "variance", "beta", "gamma"}
        old = v1.GraphDef()
        old.node.extend(node for node in graph.as_graph_def().node if node.name in node_names)
        norm = old.node.add(name="norm", op="BatchNormWithGlobalNormalization")
        norm.input.extend(["conv", "mean", "variance", "beta", "gamma"])
        norm.attr["T"].type = 1
        norm.attr["variance_epsilon"].f = 0.01
        norm.attr["scale_after_normalization"].b = scaled
        path = tmp_path / f"old_{scaled}.pb"
        path.write_bytes(old.SerializeToString())
        report = pipeline.fold(path, tmp_path / "out.onnx", FoldOptions())
        assert report.verdict.value == "pass", report.summary
        assert [n.decision for n in report.batch_norms] == ["folded"]
        assert report.batch_norms[0].epsilon == 0.01
