"""SavedModels as tf.estimator wrote them: fed by tf.Example messages or images, tables from vocabularies."""

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
from tests.integration.tensorflow import artifacts
from tests.integration.tensorflow.training import Trainer

pytestmark = pytest.mark.filterwarnings("ignore")
Features = dict[str, Any]
WORDS = ["cat", "dog", "cow"]


class Export:
    """One export: `serve` parses what `given` sends; `features` is what the model proper sees."""

    def __init__(self, folder: Path, parse: Callable[[Trainer, Any], Features], data: Features, **how: Any):
        tf = tensorflow()
        v1 = tf.compat.v1
        v1.disable_control_flow_v2()
        try:
            with v1.Graph().as_default(), v1.Session() as session:
                m = Trainer(tf, np.random.default_rng(7))
                examples = v1.placeholder("string", [None], "input_example_tensor")
                heads = self._heads(m, parse(m, examples), how.get("vocabulary"))
                session.run(v1.global_variables_initializer())
                session.run(v1.tables_initializer())
                self._write(v1, session, folder, examples, heads, how)
                self.wanted = session.run(heads, {examples: messages(tf, data)})
        finally:
            v1.enable_control_flow_v2()

    def _heads(self, m: Trainer, parsed: Features, vocabulary: Path | None) -> dict[str, Any]:
        tf = m.tf
        columns = [parsed["age"], parsed["vec"], tf.squeeze(tf.one_hot(parsed["kind"], 3), 1)]
        if vocabulary is not None:
            place = tf.lookup.TextFileIndex
            fill = tf.lookup.TextFileInitializer(
                str(vocabulary), tf.string, place.WHOLE_LINE, tf.int64, place.LINE_NUMBER
            )
            ids = tf.lookup.StaticHashTable(fill, 0).lookup(parsed["word"])
            columns.append(tf.squeeze(tf.one_hot(ids, 3), 1))
        h = tf.nn.relu(m.bn(m.dense(tf.concat(columns, 1), 8, "hidden"), m.norm(8)))
        logits = m.dense(h, 3, "logits")
        names = tf.tile(tf.expand_dims(tf.strings.as_string(tf.range(3)), 0), [tf.shape(logits)[0], 1])
        best = tf.expand_dims(tf.argmax(logits, 1), 1)
        return {
            "scores": tf.nn.softmax(logits), "all": names, "logits": logits,
            "class_ids": best, "classes": tf.strings.as_string(best),
        }  # fmt: skip

    def _write(
        self, v1: Any, session: Any, folder: Path, examples: Any, heads: dict[str, Any], how: Features
    ) -> None:
        info, signature = v1.saved_model.utils.build_tensor_info, v1.saved_model.build_signature_def
        classify = signature(
            {"inputs": info(examples)}, {"classes": info(heads["all"]), "scores": info(heads["scores"])}
        )
        wide = {name: info(heads[name]) for name in ("logits", "class_ids", "classes")}
        signatures = {
            "serving_default": classify,
            "classification": classify,
            "predict": signature({"examples": info(examples)}, wide),
        }
        builder = v1.saved_model.Builder(str(folder))
        start = {how.get("start", "main_op"): v1.tables_initializer()}
        builder.add_meta_graph_and_variables(
            session, ["serve"], signature_def_map=signatures,
            assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS), **start,
        )  # fmt: skip
        builder.save()


def messages(tf: Any, data: Features) -> np.ndarray:
    """The rows as serialized tf.Example messages."""
    rows = []
    for index in range(4):
        features = {}
        for key, values in data.items():
            value = values[index]
            if value.dtype == object:
                features[key] = tf.train.Feature(bytes_list=tf.train.BytesList(value=value.tolist()))
            elif value.dtype.kind == "i":
                features[key] = tf.train.Feature(int64_list=tf.train.Int64List(value=value.tolist()))
            else:
                features[key] = tf.train.Feature(float_list=tf.train.FloatList(value=value.tolist()))
        rows.append(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return np.array(rows, object)


def rows() -> Features:
    rng = np.random.default_rng(3)
    return {
        "age": rng.normal(size=(4, 1)).astype(np.float32), "vec": rng.normal(size=(4, 4)).astype(np.float32),
        "kind": rng.integers(0, 3, (4, 1)),
    }  # fmt: skip


def parse_now(m: Trainer, examples: Any) -> Features:
    io = m.tf.io
    return io.parse_example(
        examples,
        {"age": io.FixedLenFeature([1], "float32"), "vec": io.FixedLenFeature([4], "float32"),
         "kind": io.FixedLenFeature([1], "int64")},
    )  # fmt: skip


def parse_then(m: Trainer, examples: Any) -> Features:
    """The op of TensorFlow 1."""
    kinds = ["float32", "int64", "float32"]
    keys, shapes = ["age", "kind", "vec"], [[1], [1], [4]]
    parsed = m.tf.raw_ops.ParseExample(
        serialized=examples, names=m.tf.constant([], "string"), sparse_keys=[], dense_keys=keys,
        dense_defaults=[m.tf.constant([], kind) for kind in kinds], sparse_types=[], dense_shapes=shapes,
    )  # fmt: skip
    return dict(zip(keys, parsed.dense_values, strict=True))


def parse_words(m: Trainer, examples: Any) -> Features:
    io = m.tf.io
    word = io.parse_example(examples, {"word": io.FixedLenFeature([1], "string")})
    return {**parse_now(m, examples), **word}


def _run(artifact: Path, data: Features) -> dict[str, np.ndarray]:
    session = artifacts.session(artifact)
    texts = {
        name: np.vectorize(bytes.decode, otypes=[object])(v) if v.dtype == object else v
        for name, v in data.items()
    }
    feeds = {value.name: texts[value.name] for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize("parse", [parse_now, parse_then])
@pytest.mark.parametrize("key", [None, "classification", "predict"])
def test_features_are_the_inputs(parse: Any, key: str | None, tmp_path: Path) -> None:
    export = Export(tmp_path / "m", parse, rows())
    report = pipeline.fold(tmp_path / "m", tmp_path / "out.onnx", FoldOptions(signature=key))
    assert report.verdict.value == "pass", report.summary
    assert [norm.decision for norm in report.batch_norms] == ["folded"]
    assert {given.name for given in report.source.inputs} == {"age", "vec", "kind"}
    assert any("tf.Example" in a.why for a in report.source.assumptions)
    got = _run(tmp_path / "out.onnx", rows())
    names = {"logits", "class_ids", "classes"} if key == "predict" else {"classes", "scores"}
    assert set(got) == names
    for name, result in got.items():
        want = export.wanted["all" if (name, key) != ("classes", "predict") and name == "classes" else name]
        if want.dtype == object:
            assert result.tolist() == [[item.decode() for item in row] for row in want.tolist()]
        else:
            np.testing.assert_allclose(result, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("start", ["main_op", "legacy_init_op"])
def test_vocabulary_among_the_assets(start: str, tmp_path: Path) -> None:
    vocabulary = tmp_path / "words.txt"
    vocabulary.write_text("\n".join(WORDS) + "\n")
    word = np.array([[b"cow"], [b"cat"], [b"dog"], [b"dog"]], object)
    data = {**rows(), "word": word}
    export = Export(tmp_path / "m", parse_words, data, vocabulary=vocabulary, start=start)
    vocabulary.unlink()
    report = pipeline.fold(tmp_path / "m", tmp_path / "out.onnx", FoldOptions())
    assert report.verdict.value == "pass", report.summary
    np.testing.assert_allclose(
        _run(tmp_path / "out.onnx", data)["scores"], export.wanted["scores"], atol=1e-5
    )
    (tmp_path / "m" / "assets" / "words.txt").unlink()
    with pytest.raises(UnsupportedModel) as caught:
        pipeline.fold(tmp_path / "m", tmp_path / "out.onnx", FoldOptions())
    assert caught.value.error_code == "missing_table"


def _image_model(m: Trainer, pixels: Any) -> Any:
    h = m.bn(m.conv(m.tf.reshape(pixels, [-1, 8, 8, 3]), 4), m.norm(4))
    return m.tf.reduce_mean(h, [1, 2], name="out")


@pytest.mark.parametrize("way", ["one", "mapped", "mapped_in_functions"])
def test_images_are_decoded_by_the_caller(way: str, tmp_path: Path) -> None:
    tf = tensorflow()
    v1 = tf.compat.v1
    (v1.enable_control_flow_v2 if way == "mapped_in_functions" else v1.disable_control_flow_v2)()
    try:
        with v1.Graph().as_default(), v1.Session() as session:
            m = Trainer(tf, np.random.default_rng(7))
            contents = v1.placeholder("string", [] if way == "one" else [None], "contents")

            def decode(message: Any) -> Any:
                pixels = tf.cast(tf.io.decode_jpeg(message, 3), tf.float32)
                return v1.image.resize_bilinear(tf.expand_dims(pixels, 0), [8, 8])[0] / 255.0

            pixels = (
                decode(contents)
                if way == "one"
                else tf.map_fn(decode, contents, fn_output_signature="float32")
            )
            out = _image_model(m, pixels)
            session.run(v1.global_variables_initializer())
            v1.saved_model.simple_save(session, str(tmp_path / "m"), {"image": contents}, {"out": out})
    finally:
        v1.enable_control_flow_v2()
    report = pipeline.fold(tmp_path / "m", tmp_path / "out.onnx", FoldOptions())
    assert report.verdict.value == "pass", report.summary
    assert [norm.decision for norm in report.batch_norms] == ["folded"]
    (given,) = report.source.inputs
    assert given.name.startswith("DecodeJpeg" if way == "one" else "map/")
    assert any("decoding" in a.why for a in report.source.assumptions)
