"""Keras 3 and tf-keras models as `.keras`, `.h5` and SavedModel; SavedModels with several signatures."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from folding import pipeline
from folding.errors import AmbiguousModel, BnfoldError, UsageError
from folding.options import FoldOptions
from folding.sources.tensorflow.graph.runtime import tensorflow
from tests.integration.tensorflow import artifacts

pytestmark = pytest.mark.filterwarnings("ignore")
MODELS: dict[str, Callable[[Any], Any]] = {}


def model(build: Callable[[Any], Any]) -> Callable[[Any], Any]:
    MODELS[build.__name__] = build
    return build


@model
def functional(k: Any) -> Any:
    layers, i = k.layers, k.Input((8, 8, 3), name="img")
    x = layers.Conv2D(4, 3, name="c1", use_bias=False, padding="same")(i)
    x = layers.ReLU()(layers.BatchNormalization(name="bn1")(x))
    y = layers.DepthwiseConv2D(3, name="dw", padding="same")(x)
    x = layers.Add()([x, layers.BatchNormalization(name="bn2", scale=False)(y)])
    x = layers.BatchNormalization(center=False, name="bn3")(layers.SeparableConv2D(6, 3, strides=2)(x))
    x = layers.Dense(5, name="d")(layers.GlobalAveragePooling2D()(x))
    return k.Model(i, layers.Softmax()(layers.Dropout(0.5)(layers.BatchNormalization(name="bn4")(x))))


@model
def nested(k: Any) -> Any:
    layers = k.layers
    inner = k.Sequential(
        [k.Input((8, 8, 4)), layers.Conv2D(4, 3, padding="same"), layers.BatchNormalization(name="ibn")],
        name="inner",
    )
    i, j = k.Input((8, 8, 4)), k.Input((8, 8, 4))
    outer = k.Model(j, layers.BatchNormalization(name="fbn")(layers.Conv2D(2, 1)(j)), name="fun")
    return k.Model(i, outer(inner(inner(i))))


@model
def one_dimensional(k: Any) -> Any:
    layers = k.layers
    return k.Sequential(
        [k.Input((16, 3)), layers.Conv1D(4, 3, padding="causal"), layers.BatchNormalization(name="bn"),
         layers.ReLU(), layers.GlobalMaxPooling1D(), layers.Dense(2)]
    )  # fmt: skip


@model
def two_inputs_shared_layer(k: Any) -> Any:
    layers = k.layers
    a, b = k.Input((6,), name="a"), k.Input((6,), name="b")
    dense, norm = layers.Dense(5, name="shared"), layers.BatchNormalization(name="sbn")
    x, y = norm(dense(a)), norm(dense(b))
    return k.Model([a, b], [layers.Concatenate(name="cat")([x, y]), layers.Dense(2, name="head")(x)])


@model
def integers(k: Any) -> Any:
    layers, i = k.layers, k.Input((7,), dtype="int32", name="ids")
    x = layers.BatchNormalization(name="bn")(layers.Embedding(20, 8)(i))
    return k.Model(i, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


class Saved:
    """A model with live statistics, its inputs and its own answers."""

    def __init__(self, library: str, name: str, folder: Path) -> None:
        tensorflow()
        k, rng = importlib.import_module(library), np.random.default_rng(5)
        k.backend.clear_session()
        self.folder, net = folder, MODELS[name](k)
        self.names = _enliven(net, rng)
        self.inputs = [t.name.split(":")[0] for t in net.inputs]
        self.data = [_data(t, rng) for t in net.inputs]
        results = net(self.data if len(self.data) > 1 else self.data[0], training=False)
        self.wanted = [np.asarray(r) for r in (results if isinstance(results, list | tuple) else [results])]
        net.save(folder / "net.h5")
        if library == "keras":
            net.save(folder / "net.keras")
            net.export(folder / "saved", verbose=False)
        else:
            net.save(folder / "net.keras")
            net.save(folder / "saved")


def _enliven(net: Any, rng: np.random.Generator) -> set[str]:
    names = set()
    for layer in net.layers:
        if hasattr(layer, "layers"):
            names |= _enliven(layer, rng)
        elif "BatchNormalization" in type(layer).__name__:
            names.add(layer.name)
            layer.set_weights(
                [rng.uniform(0.5, 1.5, w.shape).astype(np.float32) for w in layer.get_weights()]
            )
    return names


def _data(tensor: Any, rng: np.random.Generator) -> np.ndarray:
    shape = [3, *tensor.shape[1:]]
    if "int" in str(tensor.dtype):
        return rng.integers(0, 20, shape).astype(np.int32)
    return rng.normal(size=shape).astype(np.float32)


def _run(artifact: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = artifacts.session(artifact)
    held = [value.name for value in session.get_inputs()]
    by_name = feeds if set(held) <= set(feeds) else dict(zip(held, feeds.values(), strict=True))
    return list(session.run(None, by_name))


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_model(library: str, name: str, tmp_path: Path) -> None:
    saved = Saved(library, name, tmp_path)
    forms = ["net.h5", "saved", "net.keras"]
    for form in forms:
        report = pipeline.fold(tmp_path / form, tmp_path / "out.onnx")
        assert report.verdict.value == "pass", (form, report.summary)
        assert report.source.route == "structure-first"
        assert {n.name.rsplit("/", 1)[-1] for n in report.batch_norms} == saved.names
        assert all(n.decision == "folded" for n in report.batch_norms)
        if form != "saved":
            assert {n.momentum for n in report.batch_norms} == {0.99}
            given = [n for n in saved.inputs if not n.startswith("keras_tensor")]  # names of its own making
            assert not given or [i.name for i in report.source.inputs] == given
            assert any(row.reference == "keras" for row in report.verification)
        got = _run(tmp_path / "out.onnx", dict(zip(saved.inputs, saved.data, strict=True)))
        for result in got:
            closest = min(np.abs(result - w).max() for w in saved.wanted if w.shape == result.shape)
            assert closest < 1e-4


@pytest.mark.parametrize("cell", ["LSTM", "GRU"])
def test_recurrent_layers(cell: str, tmp_path: Path) -> None:
    k, rng = importlib.import_module("tf_keras"), np.random.default_rng(2)
    i = k.Input((7, 5))
    x = k.layers.Bidirectional(getattr(k.layers, cell)(6, return_sequences=True))(i)
    x = k.layers.BatchNormalization(name="bn")(getattr(k.layers, cell)(4)(x))
    net = k.Model(i, k.layers.Dense(3)(x))
    _enliven(net, rng)
    net.save(tmp_path / "net.h5")
    data = rng.normal(size=(3, 7, 5)).astype(np.float32)
    report = pipeline.fold(tmp_path / "net.h5", tmp_path / "out.onnx")
    assert report.verdict.value == "pass", report.summary
    (got,) = _run(tmp_path / "out.onnx", {"x": data})
    np.testing.assert_allclose(got, np.asarray(net(data, training=False)), atol=1e-5)


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "SimpleRNN"])
def test_loops_of_every_cell(library: str, cell: str, tmp_path: Path) -> None:
    """Recurrent layers where the converter knows them, else loops: equal to Keras either way."""
    k, rng = importlib.import_module(library), np.random.default_rng(3)
    i = k.Input((7, 5))
    x = k.layers.Dense(3)(getattr(k.layers, cell)(6)(i))
    net = k.Model(i, k.layers.BatchNormalization(name="bn")(x))
    _enliven(net, rng)
    net.save(tmp_path / "net.h5")
    data = rng.normal(size=(3, 7, 5)).astype(np.float32)
    report = pipeline.fold(tmp_path / "net.h5", tmp_path / "out.onnx")
    assert report.verdict.value == "pass", report.summary
    assert [norm.decision for norm in report.batch_norms] == ["folded"]
    (got,) = _run(tmp_path / "out.onnx", {"x": data})
    np.testing.assert_allclose(got, np.asarray(net(data, training=False)), atol=1e-5)


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_layer_norms_are_no_batch_norms(library: str, tmp_path: Path) -> None:
    k, rng = importlib.import_module(library), np.random.default_rng(3)
    i = k.Input((7, 8))
    x = k.layers.Add()([k.layers.MultiHeadAttention(2, 4)(i, i), i])
    x = k.layers.Dense(6)(k.layers.LayerNormalization()(x))
    net = k.Model(i, k.layers.BatchNormalization(name="bn")(x))
    _enliven(net, rng)
    net.save(tmp_path / "net.h5")
    report = pipeline.fold(tmp_path / "net.h5", tmp_path / "out.onnx")
    assert report.verdict.value == "pass", report.summary
    assert [(norm.name.rsplit("/", 1)[-1], norm.decision) for norm in report.batch_norms] == [
        ("bn", "folded")
    ]


def test_tables_of_layers_are_refused_by_name(tmp_path: Path) -> None:
    k = importlib.import_module("keras")
    i = k.Input((1,), dtype="string")
    x = k.layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")(i)
    net = k.Model(i, k.layers.BatchNormalization()(k.layers.Dense(2)(x)))
    net.save(tmp_path / "net.keras")
    with pytest.raises(BnfoldError) as caught:
        pipeline.fold(tmp_path / "net.keras", tmp_path / "out.onnx")
    assert caught.value.error_code == "unsupported_resource"
    net.export(tmp_path / "saved", verbose=False)  # as its hint says
    report = pipeline.fold(tmp_path / "saved", tmp_path / "out.onnx")
    assert report.verdict.value == "pass", report.summary


def test_several_signatures(tmp_path: Path) -> None:
    tf = tensorflow()

    class Two(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = tf.Variable(np.eye(4, dtype=np.float32) * 2, name="w")

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
        def double(self, x: Any) -> dict[str, Any]:
            return {"y": tf.matmul(x, self.w)}

        @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
        def shift(self, x: Any) -> dict[str, Any]:
            return {"z": tf.matmul(x, self.w) + 1.0}

    two = Two()
    tf.saved_model.save(two, str(tmp_path / "m"), signatures={"double": two.double, "shift": two.shift})
    with pytest.raises(AmbiguousModel) as caught:
        pipeline.fold(tmp_path / "m", tmp_path / "out.onnx")
    assert caught.value.details["candidates"] == ["double", "shift"]
    with pytest.raises(UsageError):
        pipeline.fold(tmp_path / "m", tmp_path / "out.onnx", FoldOptions(signature="triple"))
    x = np.ones((2, 4), np.float32)
    for key, output, wanted in (("double", "y", 2.0), ("shift", "z", 3.0)):
        report = pipeline.fold(tmp_path / "m", tmp_path / "out.onnx", FoldOptions(signature=key))
        assert [o.name for o in report.source.outputs] == [output]
        np.testing.assert_allclose(_run(tmp_path / "out.onnx", {"x": x})[0], wanted)


@pytest.mark.parametrize("keep", [100, -200])
def test_truncated_files(tmp_path: Path, keep: int) -> None:
    Saved("keras", "one_dimensional", tmp_path)
    for name in ("net.h5", "net.keras"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(BnfoldError) as caught:
            pipeline.fold(path, tmp_path / "out.onnx")
        assert caught.value.exit_code == 4


def test_weights_alone_are_read_and_not_folded(tmp_path: Path) -> None:
    k = importlib.import_module("tf_keras")
    net = k.Sequential([k.Input((4,)), k.layers.Dense(3), k.layers.BatchNormalization(name="bn")])
    net.save_weights(tmp_path / "w.h5")
    inspection, arrays = pipeline.inspect(tmp_path / "w.h5")
    assert [norm.name for norm in inspection.batch_norms] == ["bn"]
    assert set(arrays) == {f"bn/{role}" for role in ("moving_mean", "moving_variance", "gamma", "beta")}
    with pytest.raises(BnfoldError) as caught:
        pipeline.fold(tmp_path / "w.h5", tmp_path / "out.onnx")
    assert caught.value.error_code == "weights_only"
