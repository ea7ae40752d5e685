"""What the gates must let through: the models that people really have."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from folding.errors import UnsafeModel
from folding.options import FoldOptions
from folding.sources.gates import (
    function_calls,
    graphdef,
    hdf5,
    keras_archive,
    keras_config,
    saved_model,
)
from folding.sources.gates import onnx as onnx_gate
from folding.sources.gates.limits import LIMITS
from tests.process.security import corpus_tensorflow
from tests.process.security.fold_in_runner import fold_in_runner


@pytest.fixture(scope="module")
def keras() -> Any:
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    return pytest.importorskip("keras", reason="the tensorflow extra is not installed")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore:The `keras.initializers.serialize:UserWarning")  # tf_keras about itself
@pytest.mark.parametrize(("library", "at_least"), [("keras", 40), ("tf_keras", 71)])
def test_every_application(library: str, at_least: int) -> None:
    """All architectures of both Keras generations, in their default size."""
    module = pytest.importorskip(library)
    names = [
        n for n in dir(module.applications) if n[0].isupper() and callable(getattr(module.applications, n))
    ]
    assert len(names) >= at_least
    for name in names:
        model = getattr(module.applications, name)(weights=None)
        keras_config.check_keras_config(json.loads(model.to_json()))
        module.backend.clear_session()


def test_one_of_each_family(keras: Any) -> None:
    for name in ("MobileNetV2", "NASNetMobile", "EfficientNetB0"):
        model = getattr(keras.applications, name)(weights=None, classes=10)
        keras_config.check_keras_config(json.loads(model.to_json()))


FAMILIES = (
    "ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "InceptionResNetV2", "InceptionV3",
    "MobileNet", "MobileNetV2", "MobileNetV3Small", "NASNetMobile", "ResNet50", "ResNet50V2", "VGG16",
    "Xception",
)  # fmt: skip
OLD_FAMILIES = ("DenseNet121", "MobileNetV3Small", "RegNetX002", "ResNetRS50", "Xception")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("library", "name", "form"),
    [("keras", name, "keras") for name in FAMILIES]
    + [("tf_keras", name, form) for name in OLD_FAMILIES for form in ("h5", "saved_model")],
)
@pytest.mark.filterwarnings("ignore:The `keras.initializers.serialize:UserWarning")
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
def test_each_family_through_the_whole_pipeline(tmp_path: Path, library: str, name: str, form: str) -> None:
    """As a file, behind its gate and through conversion and folding in the jail; all but the proof."""
    module = pytest.importorskip(library)
    model = getattr(module.applications, name)(weights=None, classes=10)
    path = tmp_path / {"keras": "m.keras", "h5": "m.h5", "saved_model": "saved"}[form]
    model.save(path)
    module.backend.clear_session()
    report = fold_in_runner(path, tmp_path / "o.onnx", FoldOptions(verify=False))
    kept = [norm.name for norm in report.batch_norms if norm.decision != "folded"]
    assert report.graph.nodes_after <= report.graph.nodes_before
    assert (tmp_path / "o.onnx").stat().st_size > 1 << 20
    print(f"{library} {name} {form}: {len(report.batch_norms)} batch norms, {len(kept)} kept", flush=True)


def test_keras_files_of_both_kinds(keras: Any, tmp_path: Path) -> None:
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", kernel_regularizer="l2")(inputs)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.Activation("swish")(x)
    x = keras.ops.mean(x, axis=(1, 2))
    outputs = keras.layers.Dense(2, activation="softmax")(x)
    model = keras.Model(inputs, outputs)
    model.compile("adam", "mse", metrics=["mae"])
    model.save(tmp_path / "m.keras")
    keras_archive.check_keras_archive(tmp_path / "m.keras")
    legacy = pytest.importorskip("tf_keras")
    old = legacy.Sequential(
        [legacy.layers.Input((4,)), legacy.layers.Dense(3, name="a/b"), legacy.layers.ReLU()]
    )
    with pytest.warns(UserWarning, match="HDF5"):
        old.save(tmp_path / "m.h5", save_format="h5")
    hdf5.check_h5(tmp_path / "m.h5")
    old.save(tmp_path / "old.keras", save_format="keras")
    keras_archive.check_keras_archive(tmp_path / "old.keras")


def test_lookup_layers_with_their_own_vocabulary(keras: Any, tmp_path: Path) -> None:
    model = keras.Sequential(
        [keras.Input((1,), dtype="string"), keras.layers.StringLookup(vocabulary=["a", "b"])]
    )
    model.save(tmp_path / "m.keras")
    keras_archive.check_keras_archive(tmp_path / "m.keras")


def test_hub_style_saved_model_with_a_table_from_a_file(tmp_path: Path) -> None:
    """The table's initializer reads an asset; it stands in the init op, and nothing else needs it."""
    tf = pytest.importorskip("tensorflow")
    vocabulary = tmp_path / "words.txt"
    vocabulary.write_text("a\nb\nc\n")

    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            reader = tf.lookup.TextFileInitializer(str(vocabulary), tf.string, -2, tf.int64, -1)
            self.table = tf.lookup.StaticVocabularyTable(reader, 1)
            self.weights = tf.Variable(tf.ones((4, 2)))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def __call__(self, words: Any) -> Any:
            return tf.gather(self.weights, self.table.lookup(words))

    model = Model()
    tf.saved_model.save(model, str(tmp_path / "m"), signatures=model.__call__)
    files = [p.relative_to(tmp_path / "m").as_posix() for p in (tmp_path / "m").rglob("*") if p.is_file()]
    saved_model.check_saved_model(tmp_path / "m", files)


def test_training_graph_with_its_pipeline(tmp_path: Path) -> None:
    """A `.meta` of 2016: queues, readers, savers, summaries, gradients, all outside of the inference."""
    tf = pytest.importorskip("tensorflow")
    v1 = tf.compat.v1
    with v1.Graph().as_default() as graph:
        names = v1.train.string_input_producer(["a.tfrecord"])
        _, record = v1.TFRecordReader().read(names)
        image = tf.reshape(tf.io.decode_raw(record, tf.float32), (1, 8))
        image = tf.numpy_function(lambda a: a, [image], tf.float32)
        x = v1.placeholder_with_default(tf.ensure_shape(image, (1, 8)), (None, 8), name="x")
        w = v1.get_variable("w", (8, 2), use_resource=False)
        y = tf.identity(tf.matmul(x, w), name="y")
        loss = tf.reduce_mean(y)
        v1.summary.scalar("loss", loss)
        v1.train.AdamOptimizer().minimize(loss)
        v1.train.Saver()
        graph_def = graph.as_graph_def()
    graphdef.check_graphdef(graph_def, purpose="training")
    ops = {node.op for node in graph_def.node}
    assert {"PyFunc", "TFRecordReaderV2", "SaveV2", "RestoreV2", "ApplyAdam"} <= ops


def test_the_hidden_pipeline_may_not_be_run() -> None:
    from folding.errors import UnsafeModel

    graph = corpus_tensorflow.graph(corpus_tensorflow.reads_file("PyFunc"))
    graphdef.check_graphdef(graph, purpose="training")
    with pytest.raises(UnsafeModel) as caught:
        graphdef.check_inference(graph)
    assert caught.value.error_code == "unsafe_op"


@pytest.mark.parametrize("size", [0, 1, 100])
def test_deep_but_sound_function_nesting(size: int) -> None:
    edges = {f"f{i}": [f"f{i + 1}"] if i < 20 else [] for i in range(21)}
    calls = {name: list(callees) for name, callees in edges.items()}
    function_calls.check_expansion(calls, dict.fromkeys(calls, 1 + size), ["f0"], 5, LIMITS)


def _onnx(tmp_path: Path, model: Any) -> Path:
    path = tmp_path / "m.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="m.data", size_threshold=0)
    return path


def test_onnx_with_external_data_functions_and_loops(tmp_path: Path) -> None:
    body = [helper.make_node("Relu", ["i"], ["t"]), helper.make_node("Add", ["t", "i"], ["o"])]
    own = helper.make_opsetid("pkg.torch", 1)
    function = helper.make_function("pkg.torch", "block", ["i"], ["o"], body, [helper.make_opsetid("", 17)])
    nodes = [helper.make_node("MatMul", ["x", "w"], ["v0"])]
    nodes += [helper.make_node("block", [f"v{i}"], [f"v{i + 1}"], domain="pkg.torch") for i in range(50)]
    nodes.append(helper.make_node("Identity", ["v50"], ["y"]))
    weight = onnx.numpy_helper.from_array(np.ones((4, 4), np.float32), "w")
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 4]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), own], functions=[function])
    path = _onnx(tmp_path, model)
    assert (tmp_path / "m.data").exists()
    onnx_gate.check_onnx(path, tmp_path)
    from tests.process.security.corpus_onnx import loop_model

    (tmp_path / "loop.onnx").write_bytes(loop_model(100).SerializeToString())
    onnx_gate.check_onnx(tmp_path / "loop.onnx", tmp_path)


@pytest.mark.parametrize(
    "kind",
    [
        TensorProto.INT4,
        TensorProto.UINT4,
        TensorProto.BFLOAT16,
        TensorProto.FLOAT8E4M3FN,
        TensorProto.FLOAT16,
    ],
)
def test_packed_and_short_types(tmp_path: Path, kind: int) -> None:
    tensor = helper.make_tensor("w", kind, [3, 3], [1.0] * 9)
    node = helper.make_node("Cast", ["w"], ["y"], to=TensorProto.FLOAT)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 3])
    model = helper.make_model(helper.make_graph([node], "g", [], [y], [tensor]))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    onnx_gate.check_onnx(tmp_path / "m.onnx", tmp_path)


def test_the_tables_know_what_tf2onnx_converts() -> None:
    """A new release of tf2onnx may convert more: then the table has to learn it."""
    tf_op = pytest.importorskip("tf2onnx.handler").tf_op
    pytest.importorskip("tf2onnx.tfonnx")
    from folding.sources.gates import tf_ops

    names = {name for versions in tf_op.get_opsets().values() for version in versions for name in version}
    elsewhere = {n for n in names if n.startswith(("TFL_", "Iterator")) or "Queue" in n}
    onnx_own = {"Loop", "Scan"}
    assert names - elsewhere - onnx_own - tf_ops.INFERENCE == set()
    assert set() == tf_ops.INFERENCE & tf_ops.FORBIDDEN


def test_topologies_without_weights() -> None:
    """Files of some kilobytes that make the weights of VGG19 (2^27.1) and ZFNet from ConstantOfShape."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    for path in sorted(folder.glob("*.onnx")):
        onnx_gate.check_onnx(path)


def test_what_is_made_from_constants_is_counted_together(tmp_path: Path) -> None:
    """Each node stays below the limit; all of them would take gigabytes."""
    nodes = [helper.make_node("ConstantOfShape", ["s"], [f"w{i}"]) for i in range(20)]
    nodes.append(helper.make_node("Sum", [f"w{i}" for i in range(20)], ["y"]))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1 << 12, 1 << 12])
    size = helper.make_tensor("s", TensorProto.INT64, [2], [1 << 12, 1 << 12])
    (tmp_path / "m.onnx").write_bytes(
        helper.make_model(helper.make_graph(nodes, "g", [], [y], [size])).SerializeToString()
    )
    with pytest.raises(UnsafeModel, match="together with the nodes before it") as caught:
        onnx_gate.check_onnx(tmp_path / "m.onnx")
    assert caught.value.error_code == "unsafe_expansion"
