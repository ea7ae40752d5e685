"""Keras networks with random weights and live statistics, as stock tf2onnx converts them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.fold import bench_network
from bench.measure import Figures

NAMES = ("MobileNetV2", "ResNet50V2", "DenseNet121", "EfficientNetB0", "MobileNetV3Small", "InceptionV3",
         "NASNetMobile")  # fmt: skip
SIZE = {"InceptionV3": 299}


def build(name: str, path: Path) -> tuple[int, ...]:
    """Write `path` with tf2onnx unless it is there; the shape of its input."""
    shape = (1, SIZE.get(name, 224), SIZE.get(name, 224), 3)
    if path.exists():
        return shape
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
    import keras
    import tensorflow as tf
    import tf2onnx

    keras.utils.set_random_seed(1)
    model = getattr(keras.applications, name)(weights=None, classes=100, input_shape=shape[1:])
    _enliven(keras, model)
    signature = [tf.TensorSpec((None, *shape[1:]), tf.float32, name="input")]
    function = tf.function(lambda x: model(x, training=False), input_signature=signature)
    path.parent.mkdir(parents=True, exist_ok=True)
    tf2onnx.convert.from_function(function, input_signature=signature, opset=18, output_path=str(path))
    keras.backend.clear_session()
    return shape


def _enliven(keras: Any, model: Any) -> None:
    """Give every batch norm statistics that matter, some gammas negative."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([_live(rng, weight.path, weight.shape) for weight in layer.weights])


def _live(rng: np.random.Generator, path: str, shape: tuple[int, ...]) -> np.ndarray:
    if "gamma" in path:
        return rng.uniform(0.6, 1.4, shape) * np.where(rng.random(shape) < 0.1, -1, 1)
    if "variance" in path:
        return rng.uniform(0.5, 1.5, shape)
    return rng.standard_normal(shape) * 0.1


def bench_all(out: Path, tools: Sequence[str], rounds: int) -> dict[str, dict[str, Figures]]:
    """All of them; the source column is tf2onnx's own output."""
    results = {}
    for name in NAMES:
        src = out / f"{name}.onnx"
        shape = build(name, src)
        results[name] = bench_network(name, src, shape, out, tools, rounds)
    return results
