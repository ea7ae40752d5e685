"""What the readers of TensorFlow files choose, suggest and leave out, each on a small file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from folding import pipeline
from folding.errors import UnsafeModel, UnsupportedModel, UsageError
from folding.options import FoldOptions
from folding.sources.tensorflow.graph.runtime import tensorflow
from tests.integration.tensorflow.artifacts import first_output, written

pytestmark = pytest.mark.filterwarnings("ignore")
FIXTURES = Path(__file__).parents[2] / "fixtures" / "tf1"
QUICK = FoldOptions(verify=False)


def _graph_with_function(folder: Path, *, called: bool) -> Path:
    """y = relu(x), and a library function with a file reader that the output calls or not."""
    tf = tensorflow()
    from tensorflow.core.framework import function_pb2

    graph = tf.Graph()
    with graph.as_default():
        x = tf.compat.v1.placeholder("float32", [None, 3], "x")
        tf.nn.relu(x, name="y")
    held = graph.as_graph_def()
    body = function_pb2.FunctionDef()
    body.signature.name = "input_pipeline"
    body.signature.input_arg.add(name="a", type=1)
    body.signature.output_arg.add(name="b", type=1)
    name = body.node_def.add(name="file", op="Const")
    name.attr["dtype"].type = 7
    name.attr["value"].tensor.dtype = 7
    name.attr["value"].tensor.tensor_shape.SetInParent()
    name.attr["value"].tensor.string_val.append(b"/etc/passwd")
    body.node_def.add(name="records", op="ReadFile").input.append("file:output:0")
    body.ret["b"] = "a"
    held.library.function.append(body)
    if called:
        call = held.node.add(name="call", op="PartitionedCall")
        call.input.append("y")
        call.attr["f"].func.name = "input_pipeline"
        call.attr["Tin"].list.type.append(1)
        call.attr["Tout"].list.type.append(1)
    (folder / "net.pb").write_bytes(held.SerializeToString())
    return folder / "net.pb"


def test_functions_that_no_output_reaches_are_not_judged(tmp_path: Path) -> None:
    report = pipeline.fold(_graph_with_function(tmp_path, called=False), tmp_path / "out.onnx")
    assert report.verdict.value == "pass"


def test_functions_that_an_output_reaches_are(tmp_path: Path) -> None:
    with pytest.raises(UnsafeModel) as caught:
        pipeline.fold(_graph_with_function(tmp_path, called=True), tmp_path / "out.onnx")
    assert caught.value.error_code == "unsafe_op"


def _tagged(folder: Path, *tags: list[str]) -> Path:
    """A SavedModel of one MetaGraph for each set of tags: y = x * (1 + its position)."""
    tf = tensorflow()
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    for position, each in enumerate(tags):
        graph = tf.Graph()
        with graph.as_default():
            x = tf.compat.v1.placeholder("float32", [None, 3], "x")
            y = tf.multiply(x, np.float32(1 + position), name="y")
            v1 = tf.compat.v1.saved_model
            signature = v1.predict_signature_def({"x": x}, {"y": y})
        meta = message.meta_graphs.add()
        meta.meta_info_def.tags.extend(each)
        meta.graph_def.CopyFrom(graph.as_graph_def())
        meta.signature_def["default"].CopyFrom(signature)
    (folder / "sm").mkdir()
    (folder / "sm" / "saved_model.pb").write_bytes(message.SerializeToString())
    return folder / "sm"


def test_the_metagraph_without_tags_is_inference_of_tensorflow_hub(tmp_path: Path) -> None:
    path = _tagged(tmp_path, ["train"], [])
    data = np.ones([2, 3], np.float32)
    report = pipeline.fold(path, tmp_path / "out.onnx", QUICK)
    (told,) = [each for each in report.source.assumptions if each.what == "MetaGraph"]
    assert told.value == "no tags"
    assert "the tags train" in told.why
    np.testing.assert_array_equal(first_output(written(tmp_path), data), 2 * data)


@pytest.mark.parametrize(("tags", "factor"), [(["train"], 1), ([""], 2), (["serve"], 3)])
def test_a_metagraph_is_named_by_its_tags(tags: list[str], factor: int, tmp_path: Path) -> None:
    path = _tagged(tmp_path, ["train"], [], ["serve"])
    options = QUICK.model_copy(update={"tags": tags})
    report = pipeline.fold(path, tmp_path / "out.onnx", options)
    assert not [each for each in report.source.assumptions if each.what == "MetaGraph"]
    data = np.ones([2, 3], np.float32)
    np.testing.assert_array_equal(first_output(written(tmp_path), data), factor * data)


def test_unknown_tags_list_what_there_is(tmp_path: Path) -> None:
    path = _tagged(tmp_path, ["train"], [])
    with pytest.raises(UsageError) as caught:
        pipeline.fold(path, tmp_path / "out.onnx", QUICK.model_copy(update={"tags": ["gpu"]}))
    assert caught.value.error_code == "unknown_tags"
    assert caught.value.details["candidates"] == [["train"], []]


def test_a_checkpoint_whose_prefix_is_empty(tmp_path: Path) -> None:
    """`Saver.save(session, "folder/")` writes .index, .meta and .data-00000-of-00001."""
    source, folder = FIXTURES / "s001_dense_tanh_good" / "ckpt", tmp_path / "ckpt"
    folder.mkdir()
    for path in source.iterdir():
        if path.name != "checkpoint":
            shutil.copy(path, folder / ("." + path.name.rsplit(".", 1)[1]))
    assert {path.name for path in folder.iterdir()} == {".index", ".meta", ".data-00000-of-00001"}
    plain = pipeline.fold(source, tmp_path / "plain.onnx", QUICK)
    report = pipeline.fold(folder, tmp_path / "out.onnx", QUICK)
    assert [norm.name for norm in report.batch_norms] == [norm.name for norm in plain.batch_norms]
    inspection, arrays = pipeline.inspect(folder)
    assert len(inspection.batch_norms) == 3
    assert arrays


@pytest.mark.parametrize("scale", [True, False])
def test_weights_of_keras_3_are_read_by_inspect(scale: bool, tmp_path: Path) -> None:
    tensorflow()
    import keras

    rng = np.random.default_rng(3)
    layers = keras.layers
    norm = layers.BatchNormalization(name="bn", scale=scale, center=scale)
    model = keras.Sequential([keras.Input([6, 6, 3]), layers.Conv2D(4, 3), norm, layers.Dense(2)])
    model.set_weights([rng.uniform(0.5, 2, w.shape) for w in model.get_weights()])
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    inspection, arrays = pipeline.inspect(path)
    (row,) = inspection.batch_norms
    assert row.name == "bn"
    np.testing.assert_array_equal(arrays["bn/moving_mean"], np.asarray(norm.moving_mean))
    np.testing.assert_array_equal(arrays["bn/moving_variance"], np.asarray(norm.moving_variance))
    with pytest.raises(UnsupportedModel) as caught:
        pipeline.fold(path, tmp_path / "out.onnx")
    assert caught.value.error_code == "weights_only"
    assert "bnfold inspect" in (caught.value.hint or "")


def _training_graph(tf: Any, x: Any) -> Any:
    """Dropout and a norm in training mode, both hard-wired."""
    mean, variance = (
        tf.compat.v1.get_variable(f"bn/{name}", initializer=np.float32(value))
        for name, value in (("moving_mean", [1, 2, 3]), ("moving_variance", [4, 1, 2]))
    )
    h = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=[1.0, 2.0, 1.0], offset=[0.0, 1.0, 0.0], mean=mean, variance=variance, epsilon=1e-3,
        exponential_avg_factor=0.9, is_training=True,
    ).y  # fmt: skip
    noise = tf.raw_ops.RandomUniform(shape=tf.shape(h), dtype=tf.float32, seed=1)
    return tf.nn.relu(h / 0.5 * tf.cast(noise >= 0.5, tf.float32))


def test_dropout_is_switched_off_with_the_norms(tmp_path: Path) -> None:
    tf = tensorflow()
    v1, graph = tf.compat.v1, tf.Graph()
    with graph.as_default():
        x = v1.placeholder("float32", [None, 4, 4, 3], "x")
        tf.identity(_training_graph(tf, x), name="y")
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            (tmp_path / "ckpt").mkdir()
            v1.train.Saver().save(session, str(tmp_path / "ckpt" / "model"))
    options = FoldOptions(feeds={"training": False}, outputs=["y"])
    report = pipeline.fold(tmp_path / "ckpt", tmp_path / "out.onnx", options)
    assert report.verdict.value == "pass", report.summary
    data = np.random.default_rng(4).normal(size=[2, 4, 4, 3]).astype(np.float32)
    scale = np.float32([1, 2, 1]) / np.sqrt(np.float32([4, 1, 2]) + np.float32(1e-3))
    wanted = np.maximum((data - np.float32([1, 2, 3])) * scale + np.float32([0, 1, 0]), 0)
    np.testing.assert_allclose(first_output(written(tmp_path), data), wanted, atol=1e-5)


def test_shadows_of_weights_are_suggested(tmp_path: Path) -> None:
    tf = tensorflow()
    v1, graph = tf.compat.v1, tf.Graph()
    with graph.as_default():
        x = v1.placeholder("float32", [None, 3], "x")
        w = v1.get_variable("w", initializer=np.ones([3, 2], np.float32))
        tf.matmul(x, w, name="logits")
        averages = tf.train.ExponentialMovingAverage(0.9)
        averages.apply([w])
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            v1.train.Saver().save(session, str(tmp_path / "model"))
    report = pipeline.fold(tmp_path / "model", tmp_path / "out.onnx", QUICK)
    assert any("--use-ema" in note for note in report.source.notes)
    taken = QUICK.model_copy(update={"use_ema": True})
    report = pipeline.fold(tmp_path / "model", tmp_path / "out.onnx", taken)
    assert not any("--use-ema" in note for note in report.source.notes)


def test_a_layer_over_steps_is_one_row(tmp_path: Path) -> None:
    tensorflow()
    import keras

    layers = keras.layers
    inner = keras.Sequential([keras.Input([6, 6, 3]), layers.Conv2D(4, 3), layers.BatchNormalization()])
    x = keras.Input([5, 6, 6, 3])
    model = keras.Model(x, layers.TimeDistributed(inner)(x))
    rng = np.random.default_rng(5)
    model.set_weights([rng.uniform(0.5, 2, w.shape) for w in model.get_weights()])
    model.save(tmp_path / "net.keras")
    report = pipeline.fold(tmp_path / "net.keras", tmp_path / "out.onnx", QUICK)
    assert [norm.decision for norm in report.batch_norms] == ["folded"]
    data = rng.normal(size=[2, 5, 6, 6, 3]).astype(np.float32)
    np.testing.assert_allclose(
        first_output(written(tmp_path), data), np.asarray(model(data)), rtol=1e-4, atol=1e-4
    )


def test_guessed_outputs_are_told_with_what_else_is_there(tmp_path: Path) -> None:
    """A contrastive loss: its author's `distance` is taken, and the other named value is told."""
    tf = tensorflow()
    v1, graph = tf.compat.v1, tf.Graph()
    with graph.as_default():
        x = v1.placeholder("float32", [None, 3], "x")
        w = v1.get_variable("w", initializer=np.eye(3, dtype=np.float32))
        embedded = tf.identity(tf.nn.relu(tf.matmul(x, w)), name="code")
        distance = tf.reduce_sum(tf.square(embedded), 1, name="distance")
        loss = tf.reduce_mean(tf.square(tf.sqrt(distance + 1e-6)))
        v1.train.GradientDescentOptimizer(0.1).minimize(loss)
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            v1.train.Saver().save(session, str(tmp_path / "model"))
    report = pipeline.fold(tmp_path / "model", tmp_path / "out.onnx", QUICK)
    (told,) = [each for each in report.source.assumptions if each.what == "outputs"]
    assert told.value == "distance:0"
    assert "code:0" in told.why
    assert told.override == "--output NAME"
