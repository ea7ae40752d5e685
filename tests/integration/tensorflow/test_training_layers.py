"""Layers of Keras that were called with training=True: switched off on demand, told where they stay."""

from __future__ import annotations

import importlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from folding import pipeline
from folding.options import FoldOptions
from folding.report import Report
from folding.sources.tensorflow.graph.runtime import tensorflow
from folding.sources.tensorflow.keras_model import open_model
from tests.integration.tensorflow.artifacts import first_output, written

pytestmark = pytest.mark.filterwarnings("ignore")
FED = FoldOptions(feeds={"training": False})
RANDOM = ["Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout"]
DATA = np.random.default_rng(8).normal(size=(2, 6, 6, 2)).astype(np.float32)


def _live(model: Any) -> None:
    rng = np.random.default_rng(3)
    model.set_weights(
        [rng.uniform(0.5, 1.5, w.shape).astype(w.dtype) if w.ndim else w for w in model.get_weights()]
    )


def _saved(model: Any, folder: Path, form: str) -> Path:
    path = folder / {"h5": "net.h5", "keras": "net.keras"}.get(form, "saved")
    if form != "saved":
        model.save(path)
    elif hasattr(model, "export") and "tf_keras" not in type(model).__module__:
        model.export(path, verbose=False)
    else:
        tensorflow().saved_model.save(model, str(path))
    return path


def _folded(model: Any, wanted: Any, folder: Path, form: str, options: FoldOptions = FED) -> Report:
    """Fold what the model was saved as; the artifact must answer as `wanted` says."""
    report = pipeline.fold(_saved(model, folder, form), folder / "out.onnx", options)
    assert report.verdict.value == "pass", report.summary
    np.testing.assert_allclose(first_output(written(folder), DATA), np.asarray(wanted), rtol=1e-4, atol=1e-4)
    return report


def _network(k: Any, name: str, **call: bool) -> Any:
    x = k.Input(DATA.shape[1:])
    h = k.layers.BatchNormalization()(k.layers.Conv2D(4, 3)(x))
    return k.Model(x, k.layers.Conv2D(3, 2)(getattr(k.layers, name)(0.3, name="random")(h, **call)))


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize(("library", "form"), [("tf_keras", "saved"), ("tf_keras", "h5"), ("keras", "saved")])
def test_dropout_and_noise_of_every_kind_are_switched_off(
    library: str, form: str, name: str, tmp_path: Path
) -> None:
    tensorflow()
    k = importlib.import_module(library)
    plain, hard = _network(k, name), _network(k, name, training=True)
    _live(plain)
    kept = iter(plain.get_weights())
    hard.set_weights([next(kept) if w.ndim else w for w in hard.get_weights()])
    report = _folded(hard, plain(DATA, training=False), tmp_path, form)
    assert any(told.what == "dropout" and told.value == "off" for told in report.source.assumptions)
    assert [norm.decision for norm in report.batch_norms] == ["folded"]


def _norms(k: Any, how: str) -> Any:
    layers, x = k.layers, k.Input(DATA.shape[1:])
    if how == "sequential":
        inner = k.Sequential([layers.Conv2D(4, 3), layers.BatchNormalization(), layers.ReLU()])
        return k.Model(x, inner(x, training=True))
    return k.Model(x, layers.BatchNormalization()(layers.Conv2D(4, 3)(x), training=True))


@pytest.mark.parametrize("how", ["direct", "sequential"])
def test_keras_3_norms_of_a_saved_model_take_their_stored_statistics(how: str, tmp_path: Path) -> None:
    """Keras 3 writes moments, and updates inside the function that inference calls."""
    tensorflow()
    model = _norms(importlib.import_module("keras"), how)
    _live(model)
    report = _folded(model, model(DATA, training=False), tmp_path, "saved")
    assert [norm.decision for norm in report.batch_norms] == ["folded"]


def test_keras_3_runs_what_it_loads_in_inference_mode_which_a_feed_confirms(tmp_path: Path) -> None:
    tensorflow()
    model = _norms(importlib.import_module("keras"), "direct")
    _live(model)
    report = _folded(model, model(DATA, training=False), tmp_path, "keras")
    (told,) = [each for each in report.source.assumptions if each.what == "training"]
    assert "Keras 3" in told.why


@pytest.mark.parametrize("form", ["saved", "h5"])
@pytest.mark.parametrize("shared", [True, False])
def test_statistics_that_change_while_the_model_runs_are_told(
    form: str, shared: bool, tmp_path: Path
) -> None:
    """Told only where inference reads what it changes: one norm, called in both modes."""
    tensorflow()
    k = importlib.import_module("tf_keras")
    layers, x = k.layers, k.Input(DATA.shape[1:])
    norm = layers.BatchNormalization()
    h = norm(layers.Conv2D(2, 3)(x), training=True)
    model = k.Model(x, norm(h) if shared else layers.ReLU()(h))
    _live(model)
    report = pipeline.fold(_saved(model, tmp_path, form), tmp_path / "out.onnx", FoldOptions())
    assert report.verdict.value == "pass", report.summary
    told = [each for each in report.source.assumptions if each.what == "updates"]
    assert [("moving_mean" in each.why, "moving_variance" in each.why) for each in told] == (
        [(True, True)] if shared else []
    )


@pytest.mark.parametrize(
    ("version", "module"),
    [("2.21.0", "tf_keras.src.engine"), ("2.15.0", "keras.src.engine"), ("2.12.0", "keras.engine")],
)
def test_a_keras_archive_of_keras_2_is_read(version: str, module: str, tmp_path: Path) -> None:
    """Where `Functional` lives changed from version to version; the file names its module."""
    tensorflow()
    k = importlib.import_module("tf_keras")
    model = _network(k, "Dropout")
    _live(model)
    model.save(tmp_path / "whole.keras")
    with (
        zipfile.ZipFile(tmp_path / "whole.keras") as old,
        zipfile.ZipFile(tmp_path / "net.keras", "w") as new,
    ):
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                data = data.replace(b"tf_keras.src.engine", module.encode())
            if name == "metadata.json":
                data = data.replace(k.__version__.encode(), version.encode())
            new.writestr(name, data)
    rebuilt, flavour = open_model(tmp_path / "net.keras")
    assert flavour == "tf-keras"
    np.testing.assert_array_equal(rebuilt.predict(DATA, verbose=0), model.predict(DATA, verbose=0))
