"""`.h5` files that Keras writes and cannot read again, and what is said of a file that nobody can rebuild."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from folding import pipeline
from folding.errors import UnsafeModel, UnsupportedModel
from folding.sources.tensorflow.graph.runtime import tensorflow
from folding.sources.tensorflow.keras_model import open_model

pytestmark = pytest.mark.filterwarnings("ignore")


def _arithmetic(k: Any) -> Any:
    """Operators, slices, and functions of `keras.ops`, whose classes share names with layers."""
    ops, x = k.ops, k.Input([8, 8, 3])
    h = ops.relu(k.layers.Conv2D(4, 3)(x)) * 2.0 + 1.0
    h = ops.reshape(h[:, 1:, :, :], (-1, 5 * 6 * 4))
    h = ops.concatenate([h, ops.maximum(h, 0.1)], axis=-1)
    h = ops.softmax(ops.transpose(ops.expand_dims(h, -1), (0, 2, 1))) - h[:, None, :]
    return k.Model(x, k.layers.BatchNormalization(axis=1)(ops.where(h > 0, h, ops.zeros_like(h)) / 3.0))


def _masks(k: Any) -> Any:
    x = k.Input([5], dtype="int32")
    h = k.layers.Embedding(7, 4, mask_zero=True)(x)
    h = k.layers.Bidirectional(k.layers.GRU(3, return_sequences=True))(h)
    return k.Model(x, k.layers.BatchNormalization()(k.layers.GlobalAveragePooling1D()(h)))


def _models_in_models(k: Any) -> Any:
    i, x = k.Input([8, 3]), k.Input([4, 8, 3])
    block = k.Model(i, k.layers.Conv1D(3, 3, padding="same")(i) + i, name="block")
    return k.Model(x, k.layers.BatchNormalization()(k.layers.TimeDistributed(block)(x) * 0.5))


def _settings_called_as_functions(k: Any) -> Any:
    x = k.Input([6, 8])
    h = k.layers.MultiHeadAttention(2, 4)(x, x)
    return k.Model(x, k.layers.Attention(score_mode="dot")([h, k.layers.Add()([h, x])]))


def _mixed_precision(k: Any) -> Any:
    x = k.Input([8, 8, 3])
    keywords = {"dtype": "mixed_float16", "kernel_regularizer": k.regularizers.L2(1e-3)}
    h = k.layers.BatchNormalization()(k.layers.Conv2D(4, 3, **keywords)(x))
    return k.Model(x, k.layers.Activation(k.activations.gelu)(h))


def _convnext(k: Any) -> Any:
    """With its own LayerScale and StochasticDepth."""
    module = importlib.import_module(f"{k.__name__}.src.applications.convnext")
    return module.ConvNeXt(
        [1, 1, 1, 1], [4, 4, 8, 8], drop_path_rate=0.2, weights=None, input_shape=(32, 32, 3), classes=3
    )


def _mobile_net(k: Any) -> Any:
    """Its hard sigmoid is `relu6(x + 3.0) / 6.0`."""
    return k.applications.MobileNetV3Small(input_shape=(32, 32, 3), weights=None, classes=3)


KERAS_3 = [_arithmetic, _masks, _models_in_models, _settings_called_as_functions, _mixed_precision, _convnext]
ROWS = [("keras", build) for build in KERAS_3] + [("tf_keras", _convnext), ("tf_keras", _masks)]


def _saved(
    library: str, build: Callable[[Any], Any], folder: Path, rng: np.random.Generator
) -> tuple[Path, Any]:
    tensorflow()
    k = importlib.import_module(library)
    k.backend.clear_session()
    model = build(k)
    model.set_weights(
        [
            (rng.normal(size=w.shape) * 0.3 if w.ndim > 1 else rng.uniform(0.5, 1.5, w.shape)).astype(w.dtype)
            for w in model.get_weights()
        ]
    )
    model.save(folder / "net.h5")
    return folder / "net.h5", model


@pytest.mark.parametrize(("library", "build"), ROWS, ids=lambda v: getattr(v, "__name__", v))
def test_the_model_is_rebuilt(library: str, build: Callable[[Any], Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    path, model = _saved(library, build, tmp_path, rng)
    shape = [2, *model.inputs[0].shape[1:]]
    data = (
        rng.integers(0, 5, shape).astype(np.int32)
        if "int" in str(model.inputs[0].dtype)
        else rng.normal(size=shape).astype(np.float32)
    )
    rebuilt, _ = open_model(path)
    np.testing.assert_array_equal(
        np.asarray(rebuilt(data, training=False)), np.asarray(model(data, training=False))
    )


def test_a_network_of_keras_applications_folds(tmp_path: Path) -> None:
    path, _ = _saved("keras", _mobile_net, tmp_path, np.random.default_rng(6))
    report = pipeline.fold(path, tmp_path / "out.onnx")
    assert report.verdict.value == "pass", report.summary
    assert {norm.decision for norm in report.batch_norms} == {"folded"}


def _with_config(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    import h5py

    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)
    return path


def _layer(config: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in config["config"]["layers"] if each["class_name"] == name)  # type: ignore[no-any-return]


def test_a_setting_that_this_keras_does_not_know_is_no_layer_of_the_users(tmp_path: Path) -> None:
    path, _ = _saved("keras", _arithmetic, tmp_path, np.random.default_rng(7))
    _with_config(path, lambda c: _layer(c, "Conv2D")["config"].update(kernel_twist=2))
    with pytest.raises(UnsupportedModel) as caught:
        open_model(path)
    assert caught.value.error_code == "keras_config"
    assert "of your own" not in (caught.value.hint or "")
    assert "the Keras that wrote it (3." in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["Map", "Cond", "Scan", "VectorizedMap", "WhileLoop", "MyLayer"])
def test_operations_that_take_code_and_layers_of_the_users_are_named(name: str, tmp_path: Path) -> None:
    path, _ = _saved("keras", _arithmetic, tmp_path, np.random.default_rng(8))
    _with_config(path, lambda c: _layer(c, "GetItem").update(class_name=name))
    with pytest.raises(UnsafeModel) as caught:
        open_model(path)
    assert caught.value.error_code == "unsafe_keras_class"
    assert name in caught.value.message
