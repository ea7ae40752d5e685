"""Checkpoints of every make: steps, shards, V1, slices, shadows, no graph, wrong graph, damage."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from folding import pipeline
from folding.errors import (
    AmbiguousModel,
    BnfoldError,
    CorruptModel,
    UnhealthyModel,
    UnknownFormat,
    UsageError,
)
from folding.options import FoldOptions
from folding.sources.tensorflow.graph.runtime import tensorflow
from tests.integration.tensorflow.programs import Maker
from tests.support.paths import TF1_PROGRAMS

pytestmark = pytest.mark.filterwarnings("ignore")
OUT = FoldOptions(outputs=["out:0"])
TRAINED = TF1_PROGRAMS / "s000_trained" / "ckpt"


def dense(tf: Any, rng: np.random.Generator) -> Any:
    m = Maker(tf, rng)
    x = m.x(6)
    return m, x, m.out(m.bn(m.v1.matmul(x, m.var("w", [6, 8])), m.norm(8)))


def save(folder: Path, steps: tuple[int, ...] = (), ema: bool = False, **saver: Any) -> None:
    tf = tensorflow()
    v1 = tf.compat.v1
    folder.mkdir(exist_ok=True)
    with v1.Graph().as_default(), v1.Session() as session:
        m, _, _ = dense(tf, np.random.default_rng(1))
        if ema:
            average = v1.train.ExponentialMovingAverage(0.9)
            update = average.apply(v1.trainable_variables())
        session.run(v1.variables_initializer([v for v in v1.global_variables() if "Average" not in v.name]))
        session.run(v1.global_variables_initializer())
        keeper = v1.train.Saver(**saver)
        if ema:
            session.run(v1.assign(v1.trainable_variables()[0], m.rng.normal(size=(6, 8)).astype(np.float32)))
            session.run(update)
        for step in steps:
            mean = next(v for v in v1.global_variables() if v.op.name == "bn/moving_mean")
            session.run(v1.assign(mean, np.full(8, step, np.float32)))
            keeper.save(session, str(folder / "model.ckpt"), global_step=step)
        if not steps:
            keeper.save(session, str(folder / "model.ckpt"))


def fold(source: Path, tmp_path: Path, options: FoldOptions = OUT) -> Any:
    report = pipeline.fold(source, tmp_path / "folded.onnx", options)
    assert report.verdict.value == "pass", report.summary
    assert [norm.decision for norm in report.batch_norms] == ["folded"]
    return report


def means(report: Any) -> float:
    return report.batch_norms[0].stats["moving_mean"].max


def test_the_newest_step_unless_told_otherwise(tmp_path: Path) -> None:
    save(tmp_path / "m", steps=(9, 10, 100))
    report = fold(tmp_path / "m", tmp_path)
    assert means(report) == 100
    assert any(a.what == "checkpoint" and a.value == "model.ckpt-100" for a in report.source.assumptions)
    assert means(fold(tmp_path / "m", tmp_path, FoldOptions(outputs=["out:0"], step=9))) == 9
    with pytest.raises(UsageError, match="step 11") as caught:
        pipeline.inspect(tmp_path / "m", FoldOptions(step=11))
    assert caught.value.details["candidates"] == [9, 10, 100]


@pytest.mark.parametrize(
    "settings", [{"sharded": True}, {"write_version": 1}, {"write_version": 1, "sharded": True}]
)
def test_sharded_and_v1_checkpoints(tmp_path: Path, settings: dict[str, Any]) -> None:
    save(tmp_path / "m", **settings)
    fold(tmp_path / "m", tmp_path)


@pytest.mark.parametrize("name", ["model.ckpt", "model.ckpt.meta", "model.ckpt.index"])
def test_a_prefix_or_one_of_its_files_means_the_checkpoint(tmp_path: Path, name: str) -> None:
    save(tmp_path / "m")
    fold(tmp_path / "m" / name, tmp_path)


def test_archives(tmp_path: Path) -> None:
    save(tmp_path / "m")
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        for path in (tmp_path / "m").iterdir():
            archive.write(path, f"deep/er/{path.name}")
    with tarfile.open(tmp_path / "m.tgz", "w:gz") as tar:
        tar.add(tmp_path / "m", "m")
    for name in ("m.zip", "m.tgz"):
        fold(tmp_path / name, tmp_path)


def test_moving_averages_of_weights(tmp_path: Path) -> None:
    save(tmp_path / "m", ema=True)
    tf = tensorflow()
    reader = tf.train.load_checkpoint(str(tmp_path / "m" / "model.ckpt"))
    plain, shadow = (reader.get_tensor(f"w{suffix}") for suffix in ("", "/ExponentialMovingAverage"))
    assert np.abs(plain - shadow).max() > 0.1
    report = fold(tmp_path / "m", tmp_path, FoldOptions(outputs=["out:0"], use_ema=True))
    assert any("ExponentialMovingAverage" in a.value for a in report.source.assumptions)
    import onnx
    from onnx import numpy_helper

    model = onnx.load(tmp_path / "folded.onnx")
    kernel = next(numpy_helper.to_array(t) for t in model.graph.initializer if len(t.dims) == 2)
    ratio = kernel / shadow
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[0], ratio.shape), rtol=1e-4)


def test_without_a_graph_the_statistics_can_still_be_read(tmp_path: Path) -> None:
    """The third thread's question: how do I read the moving mean and variance out?"""
    source = TF1_PROGRAMS / "tf1_mobilenet_like" / "ckpt"
    (tmp_path / "m").mkdir()
    for path in source.iterdir():
        if path.suffix != ".meta" and path.name != "checkpoint":
            shutil.copy(path, tmp_path / "m")
    inspection, arrays = pipeline.inspect(tmp_path / "m")
    assert [norm.name for norm in inspection.batch_norms] == [
        "batch_normalization", *(f"batch_normalization_{i}" for i in range(1, 5)),
    ]  # fmt: skip
    reader = tensorflow().train.load_checkpoint(str(source / "model.ckpt"))
    for layer in ("batch_normalization", "batch_normalization_3"):
        for role in ("moving_mean", "moving_variance", "gamma", "beta"):
            np.testing.assert_array_equal(arrays[f"{layer}/{role}"], reader.get_tensor(f"{layer}/{role}"))
    with pytest.raises(BnfoldError) as caught:
        pipeline.fold(tmp_path / "m", tmp_path / "out.onnx")
    assert caught.value.error_code == "checkpoint_without_graph"


def test_shadows_without_a_graph(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    for name in ("model.ckpt.index", "model.ckpt.data-00000-of-00001"):
        shutil.copy(TF1_PROGRAMS / "s004_ema_cond" / "ckpt" / name, tmp_path / "m")
    inspection, arrays = pipeline.inspect(tmp_path / "m")
    assert len(inspection.batch_norms) == 2
    assert sum(key.endswith("/moving_variance") for key in arrays) == 2


def test_a_bare_graph_beside_its_checkpoint(tmp_path: Path) -> None:
    """export_inference_graph.py's file, with the training run's variables."""
    fixture = TF1_PROGRAMS / "tf1_resnet_slim_like"
    shutil.copytree(fixture / "ckpt_train", tmp_path / "m")
    shutil.copy(fixture / "inference_graph.pb", tmp_path / "m")
    report = pipeline.fold(tmp_path / "m", tmp_path / "out.onnx")
    assert report.verdict.value == "pass"
    decisions = {norm.name: norm.decision for norm in report.batch_norms}
    assert decisions.pop("postnorm")  # behind relu(a + b): foldable into what follows at best
    assert set(decisions.values()) == {"folded"}
    assert any(a.what == "graph" for a in report.source.assumptions)


def test_text_graphs(tmp_path: Path) -> None:
    from google.protobuf import text_format

    tf = tensorflow()
    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString((TF1_PROGRAMS / "s003_oo" / "frozen.pb").read_bytes())
    (tmp_path / "graph.pbtxt").write_text(text_format.MessageToString(graph))
    fold(tmp_path / "graph.pbtxt", tmp_path, FoldOptions())


def test_missing_statistics_go_on_when_asked(tmp_path: Path) -> None:
    source = TF1_PROGRAMS / "s001_dense_tanh_bad_missing" / "ckpt" / "model.ckpt"
    with pytest.raises(UnhealthyModel) as caught:
        pipeline.fold(source, tmp_path / "out.onnx")
    assert caught.value.error_code == "missing_from_checkpoint"
    assert len(caught.value.details["missing"]) == 6
    assert "--missing-stats init" in (caught.value.hint or "")
    report = pipeline.fold(source, tmp_path / "out.onnx", FoldOptions(missing_stats="init"))
    assert report.verdict.value == "pass"
    assert all(n.health[0].code.value == "missing_from_checkpoint" for n in report.batch_norms)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tmp_path / "out.onnx"))
    probe = np.load(TF1_PROGRAMS / "s001_dense_tanh_bad_missing" / "probe.npz")
    np.testing.assert_allclose(
        session.run(None, {"inp:0": probe["x"]})[0], probe["y_restored"], rtol=1e-4, atol=1e-4
    )


# --- damage ---------------------------------------------------------------------------------------


def copied(tmp_path: Path) -> Path:
    shutil.copytree(TRAINED, tmp_path / "m")
    return tmp_path / "m"


def refused(source: Path, tmp_path: Path, options: FoldOptions | None = None) -> BnfoldError:
    with pytest.raises(BnfoldError) as caught:
        pipeline.fold(source, tmp_path / "out.onnx", options)
    assert not (tmp_path / "out.onnx").exists()
    return caught.value


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_corrupt_index(tmp_path: Path, keep: int) -> None:
    folder = copied(tmp_path)
    index = folder / "model.ckpt.index"
    index.write_bytes(index.read_bytes()[:keep])
    error = refused(folder, tmp_path)
    assert isinstance(error, CorruptModel)
    assert error.error_code == "corrupt_checkpoint"


def test_missing_shard(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "model.ckpt.data-00000-of-00001").unlink()
    assert refused(folder, tmp_path).error_code == "missing_shard"


def test_truncated_shard(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    data = folder / "model.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-8])
    assert refused(folder, tmp_path).error_code == "corrupt_checkpoint"


def test_flipped_bit_in_a_shard(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    data = folder / "model.ckpt.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[5] ^= 0x10
    data.write_bytes(content)
    assert refused(folder, tmp_path).error_code == "corrupt_checkpoint"


def test_truncated_meta(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    meta = folder / "model.ckpt.meta"
    meta.write_bytes(meta.read_bytes()[: meta.stat().st_size // 2])
    assert refused(folder, tmp_path).error_code == "corrupt_protobuf"


def test_a_meta_of_another_model(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    shutil.copy(TF1_PROGRAMS / "s003_manual" / "ckpt" / "model.ckpt.meta", folder)
    error = refused(folder, tmp_path, FoldOptions(outputs=["logits:0"]))
    assert error.error_code == "missing_variables"
    assert error.details["missing"]


@pytest.mark.parametrize(("change", "word"), [("shape", "4"), ("dtype", "float64")])
def test_a_meta_that_disagrees(tmp_path: Path, change: str, word: str) -> None:
    tf = tensorflow()
    folder = copied(tmp_path)
    from tensorflow.core.protobuf import meta_graph_pb2

    meta = meta_graph_pb2.MetaGraphDef()
    path = folder / "model.ckpt.meta"
    meta.ParseFromString(path.read_bytes())
    node = next(n for n in meta.graph_def.node if n.name.endswith("moving_mean"))
    if change == "shape":
        node.attr["shape"].shape.dim[0].size = 4
    else:
        node.attr["dtype"].type = tf.float64.as_datatype_enum
    path.write_bytes(meta.SerializeToString())
    error = refused(folder, tmp_path)
    assert error.error_code == "checkpoint_mismatch"
    assert error.layer == "batch_normalization/moving_mean"
    assert word in error.message


def test_unknown_output_lists_candidates(tmp_path: Path) -> None:
    error = refused(TRAINED, tmp_path, FoldOptions(outputs=["nowhere:0"]))
    assert error.error_code == "unknown_output"
    assert "out:0" in error.details["candidates"]


def test_unknown_feed_never_passes_silently(tmp_path: Path) -> None:
    assert refused(TRAINED, tmp_path, FoldOptions(feeds={"is_trainin": False})).error_code == "unknown_input"


def test_several_checkpoints_without_steps(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    for path in list(folder.iterdir()):
        if path.name.startswith("model"):
            shutil.copy(path, folder / path.name.replace("model", "best"))
    error = refused(folder, tmp_path)
    assert isinstance(error, AmbiguousModel)
    assert sorted(error.details["candidates"]) == ["best.ckpt", "model.ckpt"]


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"not a model at all\n", b"\x08\x01"])
def test_bytes_of_no_format(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pb"
    path.write_bytes(content)
    with pytest.raises(UnknownFormat):
        pipeline.fold(path, tmp_path / "out.onnx")


def test_cyclic_function_library(tmp_path: Path) -> None:
    tf = tensorflow()
    graph = tf.compat.v1.GraphDef()
    x = graph.node.add(name="x", op="Placeholder")
    x.attr["dtype"].type = 1
    call = graph.node.add(name="call", op="PartitionedCall", input=["x"])
    call.attr["Tin"].list.type.append(1)
    call.attr["Tout"].list.type.append(1)
    call.attr["f"].func.name = "f"
    function = graph.library.function.add()
    function.signature.name = "f"
    function.signature.input_arg.add(name="a", type=1)
    function.signature.output_arg.add(name="b", type=1)
    inner = function.node_def.add(name="again", op="PartitionedCall", input=["a"])
    inner.attr.MergeFrom(call.attr) if hasattr(inner.attr, "MergeFrom") else None
    for key in call.attr:
        inner.attr[key].CopyFrom(call.attr[key])
    function.ret["b"] = "again:output:0"
    path = tmp_path / "cyclic.pb"
    path.write_bytes(graph.SerializeToString())
    error = refused(path, tmp_path, FoldOptions(outputs=["call:0"]))
    assert "recurs" in error.error_code or "recurs" in error.message or "itself" in error.message
