"""Builds a small residual Keras network whose batch norms have live statistics, and saves it with its answers.

    python examples/keras_network.py OUT_FOLDER

Writes OUT_FOLDER/network.keras and OUT_FOLDER/expected.npz (an input batch and what Keras answers).
"Live" means: moving mean and variance come from training-mode passes over data, gammas differ from
one and some are negative, so that a fold that forgets anything shows.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np


def block(x: keras.KerasTensor, filters: int, stride: int = 1) -> keras.KerasTensor:
    """conv, norm, relu, depthwise conv, norm, plus a projected shortcut with its own norm."""
    shortcut = keras.layers.Conv2D(filters, 1, strides=stride, use_bias=False)(x)
    shortcut = keras.layers.BatchNormalization()(shortcut)
    x = keras.layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.DepthwiseConv2D(3, padding="same")(x)
    x = keras.layers.BatchNormalization()(x)
    return keras.layers.ReLU()(keras.layers.Add()([x, shortcut]))


def build() -> keras.Model:
    """32x32 colour images in, ten classes out."""
    inputs = keras.Input((32, 32, 3), name="image")
    x = block(inputs, 16)
    x = block(x, 32, stride=2)
    x = block(x, 64, stride=2)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(32)(x)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax", name="classes")(x))


def enliven(model: keras.Model, rng: np.random.Generator) -> None:
    """Perturb gammas and betas, then let a few training-mode passes move the statistics."""
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:
        layer.momentum = 0.5  # a few passes must do
        layer.gamma.assign(rng.uniform(0.5, 1.5, layer.gamma.shape) * rng.choice([1, 1, 1, -1], layer.gamma.shape))
        layer.beta.assign(rng.normal(0, 0.3, layer.beta.shape))
    for _ in range(8):
        model(rng.normal(0.3, 1.2, (32, 32, 32, 3)).astype("float32"), training=True)


def main(folder: Path) -> None:
    """Build, save, answer."""
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(7)
    rng = np.random.default_rng(7)
    model = build()
    enliven(model, rng)
    images = rng.normal(0, 1, (4, 32, 32, 3)).astype("float32")
    model.save(folder / "network.keras")
    np.savez(folder / "expected.npz", image=images, classes=np.asarray(model(images, training=False)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
