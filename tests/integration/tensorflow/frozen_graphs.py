"""Frozen graphs of one placeholder `x` and one output `y`, for tests of TensorFlow's operators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from folding.sources.tensorflow.graph.runtime import tensorflow

Build = Callable[[Any, Any], Any]  # of the module tensorflow and x


def write_graph(folder: Path, build: Build, shape: list[int | None]) -> Any:
    """Write `net.pb` into the folder; return the tf.Graph."""
    tf = tensorflow()
    graph = tf.Graph()
    with graph.as_default():
        x = tf.compat.v1.placeholder("float32", shape, "x")
        tf.identity(build(tf, x), name="y")
    (folder / "net.pb").write_bytes(graph.as_graph_def().SerializeToString())
    return graph
