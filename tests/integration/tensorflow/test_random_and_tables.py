"""Random numbers and lookup tables: what is constant is folded, what has no ONNX form says what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from folding import pipeline
from folding.errors import UnsupportedModel
from folding.options import FoldOptions
from folding.sources.tensorflow.graph.runtime import tensorflow
from tests.integration.tensorflow.artifacts import first_output, tensorflow_output, written
from tests.integration.tensorflow.frozen_graphs import Build, write_graph

pytestmark = pytest.mark.filterwarnings("ignore")


FIXED: dict[str, Build] = {
    "uniform": lambda tf, x: x + tf.random.stateless_uniform([4], seed=[1, 2]),
    "normal": lambda tf, x: x + tf.random.stateless_normal([4], seed=[1, 2]),
    "truncated": lambda tf, x: x + tf.random.stateless_truncated_normal([4], seed=[3, 4]),
    "integers": lambda tf, x: x * tf.cast(
        tf.random.stateless_uniform([4], seed=[1, 2], minval=1, maxval=9, dtype=tf.int32), tf.float32
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FIXED)
def test_stateless_numbers_of_a_fixed_seed_are_constants(name: str, tmp_path: Path) -> None:
    graph = write_graph(tmp_path, FIXED[name], [None, 4])
    report = pipeline.fold(tmp_path / "net.pb", tmp_path / "out.onnx")
    data = np.random.default_rng(1).normal(size=[3, 4]).astype(np.float32)
    assert report.verdict.value == "pass"
    np.testing.assert_allclose(
        first_output(written(tmp_path), data), tensorflow_output(graph, data), atol=1e-6
    )


def test_stateless_numbers_of_a_dynamic_shape_become_constants_with_a_fixed_one(tmp_path: Path) -> None:
    def build(tf: Any, x: Any) -> Any:
        return x + tf.random.stateless_uniform(tf.shape(x), seed=[1, 2])

    graph = write_graph(tmp_path, build, [None, 4])
    with pytest.raises(UnsupportedModel, match="StatelessRandomUniform") as caught:
        pipeline.fold(tmp_path / "net.pb", tmp_path / "out.onnx")
    assert "--input NAME=SHAPE" in (caught.value.hint or "")
    pipeline.fold(tmp_path / "net.pb", tmp_path / "out.onnx", FoldOptions(inputs={"x": [3, 4]}))
    data = np.random.default_rng(1).normal(size=[3, 4]).astype(np.float32)
    np.testing.assert_allclose(
        first_output(written(tmp_path), data), tensorflow_output(graph, data), atol=1e-6
    )


DRAWN: dict[str, Build] = {
    "truncated": lambda tf, x: x + tf.raw_ops.TruncatedNormal(shape=[4], dtype=tf.float32, seed=1),
    "gamma": lambda tf, x: x + tf.raw_ops.RandomGamma(shape=[4], alpha=[1.0], seed=1)[:, 0],
    "categories": lambda tf, x: x + tf.cast(
        tf.raw_ops.Multinomial(logits=tf.constant([[0.0, 1.0, 2.0]]), num_samples=4, seed=1), tf.float32
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_numbers_that_are_drawn_anew_never_become_constants(name: str, tmp_path: Path) -> None:
    """tf2onnx runs such a generator once and keeps what it drew."""
    write_graph(tmp_path, DRAWN[name], [None, 4])
    with pytest.raises(UnsupportedModel) as caught:
        pipeline.fold(tmp_path / "net.pb", tmp_path / "out.onnx")
    assert caught.value.error_code == "unsupported_op"
    assert "numbers an input of the model" in (caught.value.hint or "")


@pytest.mark.parametrize("op", ["RandomUniform", "RandomStandardNormal"])
def test_numbers_that_onnx_draws_as_well_are_drawn_and_not_compared(op: str, tmp_path: Path) -> None:
    def build(tf: Any, x: Any) -> Any:
        return x + getattr(tf.raw_ops, op)(shape=[4], dtype=tf.float32, seed=1, seed2=2)

    write_graph(tmp_path, build, [None, 4])
    report = pipeline.fold(tmp_path / "net.pb", tmp_path / "out.onnx")
    assert report.verdict.value == "inconclusive"
    assert "random numbers" in report.summary


def _saved(folder: Path, fill: Callable[[Any, Any], Any], dtype: str = "string") -> Path:
    tf = tensorflow()
    module = tf.Module()
    lookup = fill(tf, module)
    weights = np.random.default_rng(2).normal(size=[8, 3]).astype(np.float32)
    module.w = tf.Variable(weights)
    spec = tf.TensorSpec([None], dtype)
    module.f = tf.function(lambda x: {"y": tf.gather(module.w, lookup(x))}, input_signature=[spec])
    tf.saved_model.save(module, folder / "sm", signatures=module.f.get_concrete_function())
    return folder / "sm"


def _vocabulary(buckets: int) -> Callable[[Any, Any], Any]:
    def fill(tf: Any, module: Any) -> Any:
        values = tf.constant([0, 1, 2], tf.int64)
        start = tf.lookup.KeyValueTensorInitializer(tf.constant(["a", "b", "c"]), values)
        module.table = tf.lookup.StaticVocabularyTable(start, buckets)
        return module.table.lookup

    return fill


def _mutable(tf: Any, module: Any) -> Any:
    module.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, 0)
    module.table.insert(tf.constant(["a"]), tf.constant([1], tf.int64))
    return module.table.lookup


def _dense(tf: Any, module: Any) -> Any:
    module.table = tf.lookup.experimental.DenseHashTable(tf.int64, tf.int64, 0, -1, -2)
    return module.table.lookup


def _of_numbers(tf: Any, module: Any) -> Any:
    start = tf.lookup.KeyValueTensorInitializer(
        tf.constant([10, 20], tf.int64), tf.constant([0, 1], tf.int64)
    )
    module.table = tf.lookup.StaticHashTable(start, 2)
    return module.table.lookup


def test_a_vocabulary_with_one_bucket_converts(tmp_path: Path) -> None:
    path = _saved(tmp_path, _vocabulary(1))
    report = pipeline.fold(path, tmp_path / "out.onnx")
    assert report.verdict.value == "pass"
    words = np.array(["b", "nowhere", "a", "c", ""], object)
    weights = np.random.default_rng(2).normal(size=[8, 3]).astype(np.float32)
    np.testing.assert_array_equal(first_output(written(tmp_path), words), weights[[1, 3, 0, 2, 3]])


REFUSED = [
    (_vocabulary(5), "string", "unsupported_op", "num_oov_buckets=1"),
    (_mutable, "string", "missing_table", "tf.lookup.StaticHashTable"),
    (_dense, "int64", "unsupported_op", "tf.lookup.StaticHashTable"),
    (_of_numbers, "int64", "unsupported_op", "tf.strings.as_string"),
]


@pytest.mark.parametrize(("fill", "dtype", "code", "remedy"), REFUSED)
def test_a_table_that_is_refused_says_what_to_do(
    fill: Callable[[Any, Any], Any], dtype: str, code: str, remedy: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        pipeline.fold(_saved(tmp_path, fill, dtype), tmp_path / "out.onnx")
    assert caught.value.error_code == code
    assert remedy in (caught.value.hint or "")
