"""tf2onnx with two methods replaced makes the same graph; and its own are those that were replaced."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.printer
import pytest

from folding import pipeline
from folding.options import FoldOptions
from folding.sources.tensorflow.convert import tf2onnx_speed
from folding.sources.tensorflow.graph.runtime import tensorflow, tf2onnx

UNCHANGED = {"match_ops": "2e575b4926fe317f", "reset_nodes": "e6ddf6d1b39dd6e4"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module with what rewriters look for: a leaky ReLU written out, dropout's Mul, a flatten, a loop."""
    tf = tensorflow()
    rng = np.random.default_rng(7)

    class Network(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.kernel = tf.Variable(rng.normal(size=(3, 3, 2, 4)).astype(np.float32))
            self.dense = tf.Variable(rng.normal(size=(64, 5)).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec((2, 4, 4, 2), tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            y = tf.nn.conv2d(tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), self.kernel, 1, "VALID")
            y = tf.maximum(y, 0.2 * y)
            y = tf.reshape(y, (tf.shape(y)[0], 64))
            z = tf.matmul(y, self.dense) + 1.0
            return tf.while_loop(lambda i, _: i < 3, lambda i, v: (i + 1, v * 0.5), [0, z])[1]

    path = tmp_path_factory.mktemp("speed") / "saved"
    tf.saved_model.save(Network(), str(path))
    return path


def graph_of(path: Path) -> str:
    """Return the graph as text; the numbers that tf2onnx gives to names are left out."""
    return re.sub(r"__\d+", "__", onnx.printer.to_text(onnx.load(path).graph))


def test_the_same_graph_comes_out(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = FoldOptions(verify=False)
    pipeline.fold(saved, tmp_path / "quick.onnx", options)
    monkeypatch.setattr(tf2onnx_speed, "without_idle_work", lambda package: contextlib.nullcontext())
    pipeline.fold(saved, tmp_path / "plain.onnx", options)
    assert graph_of(tmp_path / "quick.onnx") == graph_of(tmp_path / "plain.onnx")


def test_originals_are_back_afterwards() -> None:
    package = tf2onnx()
    before = package.graph_matcher.GraphMatcher.match_ops, package.graph.Graph.reset_nodes
    with contextlib.suppress(ZeroDivisionError), tf2onnx_speed.without_idle_work(package):
        assert package.graph.Graph.reset_nodes is not before[1]
        raise ZeroDivisionError
    assert (package.graph_matcher.GraphMatcher.match_ops, package.graph.Graph.reset_nodes) == before


def test_a_pattern_needs_each_of_its_operators() -> None:
    pattern = tf2onnx().graph_matcher.OpTypePattern
    tree = pattern("Maximum", inputs=[pattern("Mul|MulV2", inputs=["Const", "*"]), pattern(None), "*"])
    assert tf2onnx_speed.possible(tree, {"Maximum", "MulV2", "Const"})
    assert not tf2onnx_speed.possible(tree, {"Maximum", "MulV2"})
    assert not tf2onnx_speed.possible(tree, {"Mul", "Const"})


def test_replaced_methods_are_those_that_were_read() -> None:
    """Fails when tf2onnx changes them: read them again, and remove `tf2onnx_speed` if they no longer idle."""
    package = tf2onnx()
    found = {
        "match_ops": package.graph_matcher.GraphMatcher.match_ops,
        "reset_nodes": package.graph.Graph.reset_nodes,
    }
    digests = {
        name: hashlib.sha256(inspect.getsource(f).encode()).hexdigest()[:16] for name, f in found.items()
    }
    assert digests == UNCHANGED


def test_a_second_conversion_in_one_process_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    """And tf2onnx goes on counting by itself for everybody else."""
    artifacts = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for target in artifacts:
        pipeline.fold(saved, target, FoldOptions(verify=False))
    first, second = (path.read_bytes() for path in artifacts)
    assert first == second
    make_name = tf2onnx().utils.make_name
    numbers = [int(make_name("x").rsplit("_", 1)[1]) for _ in range(2)]
    assert numbers[1] == numbers[0] + 1 > 2
