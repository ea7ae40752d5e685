"""Keras networks with random weights and statistics that lived: nothing is at its initial value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def live_network(build: Any, size: int, seed: int = 0) -> Any:
    """A Keras application with random weights, live moving statistics, perturbed gammas, some negative.

    build: a `keras.applications` constructor. size: height and width of its input.

    The statistics come from training-mode passes, so every layer sees inputs that it would really see;
    then gamma and beta move, as training would have moved them. A gamma is negative in one channel of eight.
    """
    import keras

    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = build(weights=None, input_shape=(size, size, 3), classes=10)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:
        layer.momentum = 0.5
    for _ in range(3):
        model(rng.normal(0.3, 1.5, (4, size, size, 3)).astype(np.float32), training=True)
    for layer in norms:
        layer.momentum = 0.99
        if layer.scale:
            sign = np.where(rng.random(layer.gamma.shape) < 0.125, -1.0, 1.0)
            layer.gamma.assign(sign * rng.uniform(0.6, 1.4, layer.gamma.shape))
        if layer.center:
            layer.beta.assign(rng.normal(0, 0.2, layer.beta.shape))
    return model


def save_all(model: Any, folder: Path) -> dict[str, Path]:
    """The model as its three kinds of user would have it: `.keras`, `.h5` and an exported SavedModel."""
    paths = {
        "keras": folder / "model.keras",
        "h5": folder / "model.h5",
        "saved_model": folder / "saved_model",
    }
    model.save(paths["keras"])
    model.save(paths["h5"])
    model.export(str(paths["saved_model"]), verbose=False)
    return paths
