"""`bnfold.fold` of models that Keras and TensorFlow hold in memory, and of one through a service."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bnfold


def keras_model() -> Any:
    import keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    x = keras.Input((8, 8, 3))
    y = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3)(x)))
    return keras.Model(x, y)


def tf_keras_model() -> Any:
    import tf_keras as keras

    keras.utils.set_random_seed(1)
    layers = keras.layers
    return keras.Sequential([layers.Conv2D(4, 3, input_shape=(8, 8, 3)), layers.BatchNormalization()])


def module() -> Any:
    import tensorflow as tf

    class Net(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            rng = np.random.default_rng(3)
            self.w = tf.Variable(rng.normal(size=(5, 4)).astype(np.float32))
            self.mean = tf.Variable(rng.normal(size=4).astype(np.float32), name="bn/moving_mean")
            self.variance = tf.Variable(rng.uniform(1, 2, 4).astype(np.float32), name="bn/moving_variance")

        @tf.function(input_signature=[tf.TensorSpec([None, 5], tf.float32)])
        def __call__(self, x: Any) -> Any:
            y = tf.matmul(x, self.w)
            return tf.nn.batch_normalization(y, self.mean, self.variance, None, None, 1e-3)

    return Net()


@pytest.mark.parametrize("make", [keras_model, tf_keras_model, module])
def test_a_model_in_memory(make: Any, tmp_path: Path) -> None:
    model = make()
    result = bnfold.fold(model, tmp_path / "net.onnx")
    assert result, str(result)
    assert result.report.graph.batch_norms_before == 1
    assert all(norm.decision == "folded" for norm in result.report.batch_norms)
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    shape = [1 if not isinstance(d, int) else d for d in session.get_inputs()[0].shape]
    x = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    answer = session.run(None, {session.get_inputs()[0].name: x})[0]
    expected = np.asarray(model(x, training=False) if make is not module else model(x))
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5)


def test_importing_it_loads_no_framework() -> None:
    code = "import bnfold, sys; print([m for m in ('onnx', 'onnxruntime', 'tensorflow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
