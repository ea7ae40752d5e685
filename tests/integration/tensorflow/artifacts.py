"""Numbers to compare: what an artifact computes, and what TensorFlow computes for the same graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from folding.sources.tensorflow.graph.runtime import tensorflow

Feeds = dict[str, np.ndarray]


def session(artifact: Path | bytes) -> Any:
    """Open the artifact in ONNX Runtime, which says nothing on the way."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    source = artifact if isinstance(artifact, bytes) else str(artifact)
    return onnxruntime.InferenceSession(source, settings, providers=["CPUExecutionProvider"])


def run(artifact: Path, feeds: Feeds) -> Feeds:
    """Return the outputs by name."""
    opened = session(artifact)
    names = [value.name for value in opened.get_outputs()]
    return dict(zip(names, opened.run(names, feeds), strict=True))


def first_output(artifact: Path | bytes, data: np.ndarray) -> np.ndarray:
    """Return the first output for data on the first input."""
    opened = session(artifact)
    return np.asarray(opened.run(None, {opened.get_inputs()[0].name: data})[0])


def written(folder: Path) -> Path:
    """Return the artifact, also where it was rejected: tables compare numbers whatever the verdict says."""
    published = folder / "out.onnx"
    return published if published.exists() else folder / "out.onnx.rejected"


def tensorflow_output(graph: Any, data: np.ndarray) -> np.ndarray:
    """Return what TensorFlow computes for `y` of a frozen graph with the input `x`."""
    tf = tensorflow()
    with tf.compat.v1.Session(graph=graph) as opened:
        return np.asarray(opened.run("y:0", {"x:0": data}))
