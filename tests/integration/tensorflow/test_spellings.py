"""What tf2onnx converts wrongly by itself: fake quantization, Select, dilated convolutions, short kernels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from folding import pipeline
from folding.errors import UnsupportedModel
from folding.sources.tensorflow.graph.runtime import tensorflow
from folding.sources.tensorflow.graph.static_shapes import StaticShapes
from folding.sources.tensorflow.graph.symbolic_sizes import Linear, SymbolicSizes
from folding.sources.tensorflow.graph.tf_graph import TfGraph
from folding.sources.tensorflow.rewrite.quantization.fake_quant import nudge
from tests.integration.tensorflow.artifacts import first_output, tensorflow_output, written
from tests.integration.tensorflow.frozen_graphs import write_graph

pytestmark = pytest.mark.filterwarnings("ignore")


def _fold(folder: Path, shape: list[int | None], build: Callable[[Any, Any], Any], data: np.ndarray) -> Any:
    """Fold the graph that `build` makes of tf and x; the artifact must answer as TensorFlow does."""
    graph = write_graph(folder, build, shape)
    report = pipeline.fold(folder / "net.pb", folder / "out.onnx")
    wanted = tensorflow_output(graph, data)
    found = first_output(written(folder), data)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)
    return report


RANGES = [(-4.0, 4.0), (-6.0, 6.0), (-1.0, 1.0), (-0.3, 7.0), (0.0, 6.0), (-5.0, 0.0)]


@pytest.mark.parametrize("limit", RANGES, ids=str)
@pytest.mark.parametrize(("bits", "narrow"), [(8, False), (8, True), (4, False)])
def test_fake_quantization(limit: tuple[float, float], bits: int, narrow: bool, tmp_path: Path) -> None:
    """Exact but at ties, where one rounding of a merged constant decides: there one step at most."""
    low, high, step = (
        float(v) for v in nudge(np.float32(limit[0]), np.float32(limit[1]), int(narrow), 2**bits - 1)
    )
    rng = np.random.default_rng(len(str(limit)) + bits)
    data = np.float32([[0, *rng.uniform(2 * low - 1, 2 * high + 1, 900)]])
    ties = (low + (np.arange(2**bits - 1) + 0.5) * step).astype(np.float32)[None]

    def build(tf: Any, x: Any) -> Any:
        return tf.quantization.fake_quant_with_min_max_args(x, *limit, num_bits=bits, narrow_range=narrow)

    tf = tensorflow()
    graph = tf.Graph()
    with graph.as_default():
        tf.identity(build(tf, tf.compat.v1.placeholder("float32", [None, None], "x")), name="y")
    (tmp_path / "net.pb").write_bytes(graph.as_graph_def().SerializeToString())
    pipeline.fold(tmp_path / "net.pb", tmp_path / "out.onnx")
    far = np.abs(((data - low) / step) % 1 - 0.5) > 1e-3
    found, wanted = first_output(written(tmp_path), data), tensorflow_output(graph, data)
    np.testing.assert_allclose(found[far], wanted[far], atol=1e-5 * step)
    difference = np.abs(first_output(written(tmp_path), ties) - tensorflow_output(graph, ties)).max()
    assert difference < 1.01 * step


def test_fake_quantization_by_channel_of_weights_folds(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    w = rng.normal(size=[3, 3, 2, 4]).astype(np.float32)

    def build(tf: Any, x: Any) -> Any:
        low, high = tf.constant([-1.0, -2, -3, -1]), tf.constant([1.0, 2, 2, 1])
        kernel = tf.quantization.fake_quant_with_min_max_vars_per_channel(tf.constant(w), low, high)
        h = tf.nn.conv2d(x, kernel, 1, "SAME")
        return tf.nn.batch_normalization(
            h, np.float32([1, 2, 3, 4]), np.float32([1, 2, 1, 2]), 0.5, 1.5, 1e-3
        )

    report = _fold(tmp_path, [None, 6, 6, 2], build, rng.normal(size=[2, 6, 6, 2]).astype(np.float32))
    assert [n.decision for n in report.batch_norms] == ["folded"]


def _normalized(tf: Any, h: Any) -> Any:
    return tf.nn.batch_normalization(h, np.float32([1, 2, 3, 4]), np.float32([1, 2, 1, 2]), 0.5, 1.5, 1e-3)


@pytest.mark.parametrize("bits", [2, 4, 8, 12])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("narrow", [True, False])
def test_quantized_and_back(bits: int, signed: bool, narrow: bool, tmp_path: Path) -> None:
    """Exact but at ties, like fake quantization; the wider side of the range decides about the step."""
    rng = np.random.default_rng(bits)
    data = rng.uniform(-5, 7, [1, 900]).astype(np.float32)
    low = -3.0 if signed else 0.0

    def build(tf: Any, x: Any) -> Any:
        more = {"signed_input": signed, "range_given": True, "narrow_range": narrow}
        one = tf.raw_ops.QuantizeAndDequantizeV2(input=x, input_min=low, input_max=4.0, num_bits=bits, **more)
        two = tf.raw_ops.QuantizeAndDequantizeV3(
            input=x * 0.5, input_min=low, input_max=4.0, num_bits=bits, **more
        )
        return tf.stack([one, two])

    graph = write_graph(tmp_path, build, [None, None])
    report = pipeline.fold(tmp_path / "net.pb", tmp_path / "out.onnx")
    assert report.verdict.value == "pass", report.summary
    found, wanted = first_output(written(tmp_path), data), tensorflow_output(graph, data)
    assert np.mean(np.abs(found - wanted) > 1e-5) < 0.005
    assert np.abs(found - wanted).max() < 1.01 * 7 / (2**bits - 2)


def test_weights_that_are_quantized_and_back_fold(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    w = rng.normal(size=[3, 3, 2, 4]).astype(np.float32)

    def build(tf: Any, x: Any) -> Any:
        kernel = tf.quantization.quantize_and_dequantize_v2(
            tf.constant(w), -3.0, 2.0, range_given=True, num_bits=4
        )
        return _normalized(tf, tf.nn.conv2d(x, kernel, 1, "SAME"))

    report = _fold(tmp_path, [None, 6, 6, 2], build, rng.normal(size=[2, 6, 6, 2]).astype(np.float32))
    assert [n.decision for n in report.batch_norms] == ["folded"]


def test_a_range_of_the_data_is_refused_by_name(tmp_path: Path) -> None:
    def build(tf: Any, x: Any) -> Any:
        return tf.raw_ops.QuantizeAndDequantizeV2(input=x, input_min=0.0, input_max=0.0, range_given=False)

    with pytest.raises(UnsupportedModel) as caught:
        _fold(tmp_path, [None, 4], build, np.zeros([1, 4], np.float32))
    assert caught.value.error_code == "fake_quant_range"


@pytest.mark.parametrize("layer", ["deconv2d", "deconv3d"])
@pytest.mark.parametrize("kernel", [3, 2, 1])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_a_transposed_convolution_of_unknown_size_is_one_conv(
    layer: str, kernel: int, padding: str, tmp_path: Path
) -> None:
    """Its paddings are constants although the sizes are not, so that what follows folds into it."""
    rng = np.random.default_rng(kernel)
    rank = 2 if layer == "deconv2d" else 3
    w = rng.normal(size=[*([kernel] * rank), 4, 3]).astype(np.float32)
    more = max(kernel - 2, 0) if padding == "VALID" else 0

    def build(tf: Any, x: Any) -> Any:
        shape = tf.shape(x)
        sizes = tf.stack([shape[0], *(2 * shape[i] + more for i in range(1, 1 + rank)), 4])
        op = tf.raw_ops.Conv2DBackpropInput if rank == 2 else tf.raw_ops.Conv3DBackpropInputV2
        h = op(input_sizes=sizes, filter=w, out_backprop=x, strides=[1, *[2] * rank, 1], padding=padding)
        h = tf.nn.bias_add(h, tf.constant([1.0, 2, 3, 4]))
        return tf.nn.batch_normalization(
            h, np.float32([1, 2, 3, 4]), np.float32([1, 2, 1, 2]), 0.5, 1.5, 1e-3
        )

    data = rng.normal(size=[2, *[5, 4, 3][:rank], 3]).astype(np.float32)
    report = _fold(tmp_path, [None, *[None] * rank, 3], build, data)
    assert report.verdict.value == "pass", report.summary
    assert [n.decision for n in report.batch_norms] == ["folded"]


def test_a_range_without_zero_is_refused(tmp_path: Path) -> None:
    def build(tf: Any, x: Any) -> Any:
        return tf.raw_ops.FakeQuantWithMinMaxVars(inputs=x, min=1.0, max=2.0)

    with pytest.raises(UnsupportedModel) as caught:
        _fold(tmp_path, [None, 4], build, np.zeros([1, 4], np.float32))
    assert caught.value.error_code == "fake_quant_range"


def test_the_side_that_a_select_does_not_take_may_be_infinite(tmp_path: Path) -> None:
    def build(tf: Any, x: Any) -> Any:
        return tf.where(x > 0, tf.math.log(x), tf.zeros_like(x)) + tf.where(x > 1, x, tf.constant(-1.0) / 4)

    data = np.float32([[-1, 0, 0.5, 2], [3, -2, 0, 1]])
    _fold(tmp_path, [None, 4], build, data)


@pytest.mark.parametrize("layer", ["conv2d", "depthwise", "conv1d"])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_a_dilated_convolution_of_unknown_size_is_one_conv(layer: str, padding: str, tmp_path: Path) -> None:
    """As TensorFlow 1 wrote it: SpaceToBatchND with paddings that are computed from the size."""
    rng = np.random.default_rng(len(layer))
    rate, rank = 2, 1 if layer == "conv1d" else 2
    w = rng.normal(size=[*([3] * rank), 2, 3]).astype(np.float32)

    def build(tf: Any, x: Any) -> Any:
        base = [[rate, rate]] * rank if padding == "SAME" else [[0, 0]] * rank
        pads, crops = tf.compat.v1.required_space_to_batch_paddings(
            tf.shape(x)[1 : 1 + rank], tf.constant([rate] * rank), tf.constant(base)
        )
        h = tf.raw_ops.SpaceToBatchND(input=x, block_shape=[rate] * rank, paddings=pads)
        if layer == "depthwise":
            h = tf.raw_ops.DepthwiseConv2dNative(input=h, filter=w, strides=[1] * 4, padding="VALID")
        elif layer == "conv1d":
            h = tf.raw_ops.Conv2D(
                input=tf.expand_dims(h, 1), filter=w[None], strides=[1] * 4, padding="VALID"
            )
            h = tf.squeeze(h, [1])
        else:
            h = tf.raw_ops.Conv2D(input=h, filter=w, strides=[1] * 4, padding="VALID")
        h = tf.raw_ops.BatchToSpaceND(input=h, block_shape=[rate] * rank, crops=crops)
        c = 6 if layer == "depthwise" else 3
        mean, variance = np.arange(c, dtype=np.float32), np.arange(1, c + 1, dtype=np.float32)
        return tf.nn.relu(tf.nn.batch_normalization(h, mean, variance, 0.5, 1.5, 1e-3))

    data = rng.normal(size=[2, *([9, 8][:rank]), 2]).astype(np.float32)
    report = _fold(tmp_path, [None, *([None] * rank), 2], build, data)
    assert [n.decision for n in report.batch_norms] == ["folded"]


def test_paddings_that_differ_from_crops_by_a_run_time_number_stay(tmp_path: Path) -> None:
    """The crop is of the other dimension: no constant difference, and no dilated convolution of that kind."""
    rng = np.random.default_rng(8)
    w = rng.normal(size=[3, 3, 2, 3]).astype(np.float32)

    def build(tf: Any, x: Any) -> Any:
        extra = tf.math.floormod(-tf.shape(x)[1:3], 2)
        zero = tf.zeros([2], tf.int32)
        h = tf.raw_ops.SpaceToBatchND(input=x, block_shape=[2, 2], paddings=tf.stack([zero, extra], 1))
        h = tf.raw_ops.Conv2D(input=h, filter=w, strides=[1] * 4, padding="VALID")
        return tf.raw_ops.BatchToSpaceND(input=h, block_shape=[2, 2], crops=tf.stack([zero, extra[::-1]], 1))

    tf = tensorflow()
    graph = tf.Graph()
    with graph.as_default():
        x = tf.compat.v1.placeholder("float32", [None, None, None, 2], "x")
        tf.identity(build(tf, x), name="y")
    (tmp_path / "net.pb").write_bytes(graph.as_graph_def().SerializeToString())
    report = pipeline.fold(tmp_path / "net.pb", tmp_path / "out.onnx")
    data = rng.normal(size=[1, 9, 8, 2]).astype(np.float32)
    found, wanted = first_output(written(tmp_path), data), tensorflow_output(graph, data)
    assert report.verdict.value == "pass"
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("fixed", [True, False])
def test_results_that_no_product_reaches_still_have_their_bias(fixed: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    w = rng.normal(size=[2, 2, 3, 2]).astype(np.float32)

    def build(tf: Any, x: Any) -> Any:
        n, h, v = (tf.shape(x)[axis] for axis in (0, 1, 2))
        sizes = tf.stack([n, 15, 12, 3] if fixed else [n, h * 3, v * 3, 3])
        y = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=sizes, filter=w, out_backprop=x, strides=[1, 3, 3, 1], padding="SAME"
        )
        return tf.nn.bias_add(y, np.float32([1, 2, 3]))

    data = rng.normal(size=[2, 5, 4, 2]).astype(np.float32)
    _fold(tmp_path, [None, 5, 4, 2] if fixed else [None, None, None, 2], build, data)


@pytest.mark.parametrize("layer", ["Conv2D", "Conv3D"])
def test_a_channels_first_bias_that_keras_adds_along_the_width(layer: str, tmp_path: Path) -> None:
    """As many channels as columns: Keras 3 takes the last dimension then, and a note says so."""
    import keras

    rng = np.random.default_rng(11)
    spatial = [6, 7, 5] if layer == "Conv3D" else [7, 5]
    x = keras.Input([3, *spatial], name="x")
    conv = getattr(keras.layers, layer)(5, 1, data_format="channels_first", name="conv")
    model = keras.Model(x, conv(x))
    kernel, bias = rng.normal(size=[3, 5]).astype(np.float32), np.arange(5, dtype=np.float32)
    conv.set_weights([kernel.reshape(conv.kernel.shape), bias])
    model.save(tmp_path / "net.keras")
    report = pipeline.fold(tmp_path / "net.keras", tmp_path / "out.onnx")
    data = rng.normal(size=[2, 3, *spatial]).astype(np.float32)
    wanted = np.moveaxis(np.moveaxis(data, 1, -1) @ kernel, -1, 1) + bias
    np.testing.assert_allclose(first_output(written(tmp_path), data), wanted, atol=1e-5)
    assert report.verdict.value == "pass", report.summary
    assert any("along the width" in note for note in report.source.notes)


def test_equal_computations_of_sizes_are_one_atom() -> None:
    tf = tensorflow()
    graph = tf.Graph()
    with graph.as_default():
        x = tf.compat.v1.placeholder("float32", [None, None, 4], "x")
        one = tf.stack([1, 1 + tf.math.floormod(4 - tf.shape(x)[1], 4)])
        two = tf.stack([0, tf.math.floormod(4 - tf.shape(x)[1], 4)])
        tf.subtract(one, two, name="difference")
    held = TfGraph(graph.as_graph_def())
    found = SymbolicSizes(held, StaticShapes(held)).of("difference")
    assert [each.known for each in found] == [1, 1]
    assert Linear(2, (("a", 1),)).plus(Linear(1, (("a", 1),)), -1) == Linear(1)


def test_quotients_of_negative_integers_are_rounded_down(tmp_path: Path) -> None:
    tf = tensorflow()
    graph = tf.Graph()
    with graph.as_default():
        x = tf.compat.v1.placeholder("int32", [None], "x")
        tf.identity(tf.math.floormod(x, 4) * 100 + x // 4 + tf.math.floormod(-x, [-3]), name="y")
    (tmp_path / "net.pb").write_bytes(graph.as_graph_def().SerializeToString())
    pipeline.fold(tmp_path / "net.pb", tmp_path / "out.onnx")
    data = np.arange(-9, 10, dtype=np.int32)
    np.testing.assert_array_equal(first_output(written(tmp_path), data), tensorflow_output(graph, data))
