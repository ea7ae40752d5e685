"""SavedModels without signatures: their traced functions, folded and equal to TensorFlow's own answers."""

from __future__ import annotations

import importlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from folding import pipeline
from folding.errors import AmbiguousModel, BnfoldError, UsageError, catalogue
from folding.options import FoldOptions
from folding.report import Report
from folding.sources.tensorflow.graph.checkpoint_prefix import Prefix
from folding.sources.tensorflow.graph.runtime import tensorflow
from folding.sources.tensorflow.graph.weights import CheckpointWeights
from tests.integration.tensorflow.modules import MODULES, image, net, spec
from tests.process.security.mutants import mutate_message

pytestmark = pytest.mark.filterwarnings("ignore")


def run(artifact: Path, feeds: dict[str, Any]) -> dict[str, np.ndarray]:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(artifact), settings, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    given = {value.name: feeds[value.name] for value in session.get_inputs()}
    return dict(zip(names, session.run(names, given), strict=True))


def save(module: Any, folder: Path) -> Path:
    tensorflow().saved_model.save(module, str(folder), signatures={})
    return folder


def fold(path: Path, tmp_path: Path, **options: Any) -> Report:
    return pipeline.fold(path, tmp_path / "out.onnx", FoldOptions(**options))


@pytest.mark.parametrize("name", sorted(MODULES))
def test_module(name: str, tmp_path: Path) -> None:
    tf = tensorflow()
    rng = np.random.default_rng(sum(map(ord, name)))
    module, feeds, wanted = MODULES[name](tf, rng, tmp_path)
    report = fold(save(module, tmp_path / "saved"), tmp_path)
    assert report.verdict.value == "pass", report.summary
    assert report.source.route == "structure-first"
    assert report.batch_norms
    assert {norm.decision for norm in report.batch_norms} == {"folded"}
    assert next(a.what for a in report.source.assumptions) == "signature"
    got = run(tmp_path / "out.onnx", feeds)
    assert set(got) == set(wanted)
    for key, value in wanted.items():
        # float32 sums of up to 54 products of order one, in two orders
        np.testing.assert_allclose(got[key], np.asarray(value), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["both_modes", "dictionaries", "captured_table"])
def test_inspection(name: str, tmp_path: Path) -> None:
    module, feeds, wanted = MODULES[name](tensorflow(), np.random.default_rng(7), tmp_path)
    inspection, arrays = pipeline.inspect(save(module, tmp_path / "saved"))
    assert [norm.spelling for norm in inspection.batch_norms]
    assert any(key.endswith("/moving_mean") for key in arrays)
    assert {port.name for port in inspection.inputs} == set(feeds)
    assert {port.name for port in inspection.outputs} == set(wanted)
    chosen = "__call__:1" if name == "both_modes" else "__call__"
    assert {row.name for row in inspection.signatures[chosen]["inputs"]} == set(feeds)
    (assumption,) = (each for each in inspection.assumptions if each.what == "signature")
    assert assumption.value.startswith(chosen)
    assert "no signature" in assumption.why


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
@pytest.mark.parametrize("trained", [False, True])
def test_keras_models(library: str, trained: bool, tmp_path: Path) -> None:
    """A Keras model as an attribute of a module, behind a function of the author's."""
    tf, k = tensorflow(), importlib.import_module(library)
    k.backend.clear_session()
    k.utils.set_random_seed(3)
    i = k.Input((8, 8, 3))
    x = k.layers.BatchNormalization(name="first")(k.layers.Conv2D(4, 3, use_bias=False)(i))
    x = k.layers.GlobalAveragePooling2D()(k.layers.ReLU()(x))
    keras = k.Model(i, k.layers.BatchNormalization(name="second")(k.layers.Dense(5)(x)))
    rng = np.random.default_rng(4)
    if trained:
        keras.compile("adam", "mse")
        keras.fit(image(rng, 16, 8, 8, 3), image(rng, 16, 5), verbose=0, epochs=3)
    else:
        for norm in (layer for layer in keras.layers if "norm" in type(layer).__name__.lower()):
            norm.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in norm.get_weights()])

    class Wrapped(tf.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = keras

        @tf.function
        def __call__(self, x: Any, training: bool = False) -> Any:
            return self.model(x, training=training)

    module = Wrapped()
    for training in (True, False):
        module.__call__.get_concrete_function(spec(tf), training=training)
    report = fold(save(module, tmp_path / "saved"), tmp_path)
    assert report.verdict.value == "pass", report.summary
    assert {norm.name.rsplit("/", 1)[-1] for norm in report.batch_norms} == {"first", "second"}
    assert {norm.decision for norm in report.batch_norms} == {"folded"}
    x = image(rng)
    got = run(tmp_path / "out.onnx", {"x": x})["output_0"]
    np.testing.assert_allclose(got, np.asarray(keras(x, training=False)), atol=1e-5)


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
@pytest.mark.parametrize("signatures", [None, {}])
def test_keras_models_saved_as_they_are(
    library: str, signatures: dict[str, Any] | None, tmp_path: Path
) -> None:
    tf, k = tensorflow(), importlib.import_module(library)
    k.backend.clear_session()
    keras = k.Sequential([k.Input((6,)), k.layers.Dense(5), k.layers.BatchNormalization(name="bn")])
    rng = np.random.default_rng(4)
    keras.layers[-1].set_weights([rng.uniform(0.5, 1.5, 5) for _ in range(4)])
    x = image(rng, 3, 6)
    keras(x)
    tf.saved_model.save(keras, str(tmp_path / "saved"), signatures=signatures)
    report = fold(tmp_path / "saved", tmp_path)
    assert report.verdict.value == "pass", report.summary
    assert [(n.name.rsplit("/", 1)[-1], n.decision) for n in report.batch_norms] == [("bn", "folded")]
    (got,) = run(tmp_path / "out.onnx", {port.name: x for port in report.source.inputs}).values()
    np.testing.assert_allclose(got, np.asarray(keras(x, training=False)), atol=1e-5)


def test_training_alone_is_taken_and_said(tmp_path: Path) -> None:
    tf = tensorflow()
    module = net(tf, np.random.default_rng(2))
    module.__call__ = tf.function(module.forward)
    module.__call__.get_concrete_function(spec(tf), training=True)
    report = fold(save(module, tmp_path / "saved"), tmp_path)
    assert [h.code.value for h in report.batch_norms[0].health] == ["batch_statistics_at_inference"]
    (assumption,) = (each for each in report.source.assumptions if each.what == "signature")
    assert assumption.value == "__call__ (training=True)"
    assert "training mode" in assumption.why


def two_functions(tf: Any) -> tuple[Any, np.ndarray]:
    rng = np.random.default_rng(2)
    module = net(tf, rng)
    module.encode = tf.function(module.forward)
    module.encode.get_concrete_function(spec(tf), training=False)
    module.double = tf.function(lambda x: module.forward(x) * 2.0)
    for size in (8, 6):
        module.double.get_concrete_function(spec(tf, None, size, size, 3))
    return module, image(rng)


def test_several_functions_are_listed_and_can_be_named(tmp_path: Path) -> None:
    tf = tensorflow()
    module, x = two_functions(tf)
    path = save(module, tmp_path / "saved")
    with pytest.raises(AmbiguousModel) as caught:
        fold(path, tmp_path)
    assert caught.value.error_code == "ambiguous_signature"
    assert set(caught.value.details["candidates"]) == {"encode", "double:0", "double:1"}
    with pytest.raises(AmbiguousModel) as caught:
        fold(path, tmp_path, signature="double")
    assert set(caught.value.details["candidates"]) == {"double:0", "double:1"}
    for name, wanted in (("encode", module.forward(x)), ("double:0", module.forward(x) * 2.0)):
        report = fold(path, tmp_path, signature=name)
        assert report.verdict.value == "pass", report.summary
        assert not [each for each in report.source.assumptions if each.what == "signature"]
        np.testing.assert_allclose(
            run(tmp_path / "out.onnx", {"x": x})["output_0"], np.asarray(wanted), atol=1e-4
        )
    for name in ("decode", "double:2", "double:x", "encode:0:0", ":"):
        with pytest.raises(UsageError) as refused:
            fold(path, tmp_path, signature=name)
        assert refused.value.error_code == "unknown_signature"
        assert set(refused.value.details["candidates"]) == {"encode", "double"}


def test_the_function_is_named_and_the_trace_is_chosen(tmp_path: Path) -> None:
    module, _, _ = MODULES["both_modes"](tensorflow(), np.random.default_rng(7), tmp_path)
    report = fold(save(module, tmp_path / "saved"), tmp_path, signature="__call__")
    (assumption,) = (each for each in report.source.assumptions if each.what == "signature")
    assert assumption.value == "__call__:1 (training=False)"
    assert assumption.why == "asked for; this is the best fit of 2 traces for inference"
    assert assumption.override == "--signature NAME (__call__:0)"
    report = fold(tmp_path / "saved", tmp_path, signature="__call__:0")
    assert [h.code.value for h in report.batch_norms[0].health] == ["batch_statistics_at_inference"]


def test_functions_beside_signatures_can_be_named(tmp_path: Path) -> None:
    tf = tensorflow()
    module, x = two_functions(tf)
    signature = module.encode.get_concrete_function(spec(tf), training=False)
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=signature)
    report = fold(tmp_path / "saved", tmp_path)
    assert not [each for each in report.source.assumptions if each.what == "signature"]
    with pytest.raises(AmbiguousModel, match="'double' has several traces"):
        fold(tmp_path / "saved", tmp_path, signature="double")
    fold(tmp_path / "saved", tmp_path, signature="double:0")
    got = run(tmp_path / "out.onnx", {"x": x})["output_0"]
    np.testing.assert_allclose(got, np.asarray(module.forward(x) * 2.0), atol=1e-4)


def test_tensors_without_an_onnx_form(tmp_path: Path) -> None:
    tf = tensorflow()
    module = tf.Module()
    module.w = tf.Variable(np.ones(3, np.float32))
    module.__call__ = tf.function(lambda x: tf.reduce_sum(x * module.w))
    module.__call__.get_concrete_function(tf.RaggedTensorSpec([None, None, 3], tf.float32))
    path = save(module, tmp_path / "saved")
    for options, code in (({}, "no_signature"), ({"signature": "__call__"}, "sparse_signature")):
        with pytest.raises(BnfoldError) as caught:
            fold(path, tmp_path, **options)
        assert caught.value.error_code == code


def test_keywords_that_are_not_in_order(tmp_path: Path) -> None:
    tf = tensorflow()
    rng = np.random.default_rng(2)
    module = net(tf, rng)
    module.__call__ = tf.function(lambda x, *, b, a: module.forward(x) * b + a)
    module.__call__.get_concrete_function(spec(tf), b=spec(tf, 4), a=spec(tf, 4))
    x, a, b = image(rng), image(rng, 4), image(rng, 4)
    report = fold(save(module, tmp_path / "saved"), tmp_path)
    assert report.verdict.value == "pass", report.summary
    got = run(tmp_path / "out.onnx", {"x": x, "a": a, "b": b})["output_0"]
    np.testing.assert_allclose(got, np.asarray(module.forward(x) * b + a), atol=1e-4)


def test_a_vocabulary_behind_a_signature(tmp_path: Path) -> None:
    """TensorFlow 2 reads the path of an asset from a variable that it sets first."""
    tf = tensorflow()
    module, feeds, wanted = MODULES["captured_table_of_a_file"](tf, np.random.default_rng(3), tmp_path)
    tf.saved_model.save(module, str(tmp_path / "saved"))
    (tmp_path / "vocabulary.txt").unlink()
    report = fold(tmp_path / "saved", tmp_path)
    assert report.verdict.value == "pass", report.summary
    got = run(tmp_path / "out.onnx", feeds)["output_0"]
    np.testing.assert_allclose(got, np.asarray(wanted["output_0"]), atol=1e-4)


def test_text_of_a_checkpoint_keeps_its_last_zeros(tmp_path: Path) -> None:
    tf = tensorflow()
    prefix = tf.train.Checkpoint(text=tf.Variable(b"a\0b\0\0")).write(str(tmp_path / "model.ckpt"))
    held = CheckpointWeights(Prefix.of(Path(prefix))).read("text/.ATTRIBUTES/VARIABLE_VALUE")
    assert held.item() == b"a\0b\0\0"


@pytest.mark.parametrize("name", ["both_modes", "captured_table", "dictionaries"])
def test_descriptions_changed_at_random_end_in_named_errors(name: str, tmp_path: Path) -> None:
    from tensorflow.core.protobuf import saved_model_pb2

    tf = tensorflow()
    module, _, _ = MODULES[name](tf, np.random.default_rng(7), tmp_path)
    path = save(module, tmp_path / "saved") / "saved_model.pb"
    whole, ended = path.read_bytes(), set()
    for seed in range(40):
        message = saved_model_pb2.SavedModel.FromString(whole)
        mutate_message(message.meta_graphs[0].object_graph_def, random.Random(seed), 1 + seed % 3)
        path.write_bytes(message.SerializeToString())
        try:
            pipeline.inspect(path.parent)
            ended.add("")
        except BnfoldError as error:
            ended.add(error.error_code)
    assert ended <= {"", *catalogue.ERRORS} - {"malformed_model"}
    assert len(ended) > 2
