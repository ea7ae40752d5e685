"""A model that is mostly weights: proof must not need many more of them than there are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save_model

from folding.verify.float64 import evaluate
from folding.verify.model import load, same
from folding.verify.noise import ulp_noise
from folding.verify.probes import budget
from tests.unit.folding.verify.models import array, write

ROWS, WIDTH = 80_000, 1024  # 328 MB
TIMES = 4.0  # of the weights: two for a session of the runtime, one read, one mapped
VERIFY = """
import json, sys
from pathlib import Path
import folding.verify.pipeline
from folding import pipeline
from folding.options import FoldOptions
peak = lambda: 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
before = peak()
report = pipeline.fold(sys.argv[1], sys.argv[2], FoldOptions())
(norm,) = report.batch_norms
print(json.dumps({"verdict": report.verdict, "used": peak() - before, "folded": norm.decision}))
"""


def embedding(path: Path) -> int:
    """Rows of a large table, then a small convolution with its norm. Returns bytes of weights."""
    rng = np.random.default_rng(0)
    stored = {
        "table": rng.standard_normal((ROWS, WIDTH), np.float32), "w": array(8, 4, 3, 3),
        "gamma": array(8), "beta": array(8), "mean": array(8), "var": np.abs(array(8)) + 0.5,
        "shape": np.array([-1, 4, 16, 16], np.int64),
    }  # fmt: skip
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Reshape", ["rows", "shape"], ["image"]),
        helper.make_node("Conv", ["image", "w"], ["c"], pads=[1] * 4),
        helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["y"], name="bn"),
    ]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["N"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 8, 16, 16])
    weights = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    graph = helper.make_graph(nodes, "g", [ids], [y], weights)
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), str(path))
    return ROWS * WIDTH * 4


def test_proof_of_a_heavy_model_fits_in_a_few_times_its_weights(tmp_path: Path) -> None:
    bytes_ = embedding(tmp_path / "model.onnx")
    assert bytes_ > budget.HEAVY
    command = [sys.executable, "-c", VERIFY, str(tmp_path / "model.onnx"), str(tmp_path / "out.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert (found["verdict"], found["folded"]) == ("pass", "folded")
    print(f"\n{found['used'] / bytes_:.2f} times the weights")
    assert found["used"] <= TIMES * bytes_


def test_weights_that_a_fold_left_alone_are_held_once(tmp_path: Path) -> None:
    text = "g (float[2,256] x) => (float y) { h = MatMul(x, a)  y = MatMul(h, b) }"
    one = write(tmp_path / "one.onnx", text, a=array(256, 256), b=array(256, 256))
    two = write(tmp_path / "two.onnx", text, a=array(256, 256), b=2 * array(256, 256))
    source = load(one)
    artifact = load(two, source.weights)
    assert artifact.weights["a"] is source.weights["a"]
    assert artifact.weights["b"] is not source.weights["b"]
    assert np.array_equal(artifact.weights["b"], 2 * source.weights["b"])


def test_the_same_is_bit_by_bit() -> None:
    a = np.array([0.0, np.nan, 1.0], np.float32)
    assert same(a, a.copy(), block=5)
    assert not same(a, np.array([-0.0, np.nan, 1.0], np.float32))
    assert not same(a, a.astype(np.float64))
    assert not same(a, a[:2])
    assert not same(a, np.array([0.0, np.nan, 2.0], np.float32), block=8)


def test_every_block_of_a_large_array_is_moved() -> None:
    """Its last element too, and none by more than one unit in the last place; what is stored stays."""
    stored = np.ones(2 * ulp_noise.BLOCK + 3, np.float32)
    moved = ulp_noise.neighbour(stored, np.random.default_rng(0))
    steps = (moved.view(np.int32) - stored.view(np.int32)).reshape(-1)
    assert set(np.unique(steps)) == {-1, 1}
    assert abs(float(steps.mean())) < 0.01
    assert (stored == 1).all()


def test_a_read_only_or_strided_array_is_moved_into_a_copy() -> None:
    held = np.arange(1, 13, dtype=np.float32).reshape(3, 4).T
    held.flags.writeable = False
    moved = ulp_noise.neighbour(held, np.random.default_rng(0))
    assert moved.shape == held.shape
    assert (moved != held).all()
    assert np.allclose(moved, held)


def test_infinities_and_the_largest_number_stay_finite_or_as_they_are() -> None:
    top = np.finfo(np.float32).max
    held = np.array([np.inf, -np.inf, np.nan, top, -top], np.float32)
    for seed in range(8):
        moved = ulp_noise.neighbour(held, np.random.default_rng(seed))
        np.testing.assert_array_equal(moved[:3], held[:3])
        assert np.isfinite(moved[3:]).all()


def test_rows_of_a_table_are_exact_in_float64(tmp_path: Path) -> None:
    text = "g (int64[2,3] x) => (float y) { y = Gather<axis=1>(t, x) }"
    path = write(tmp_path / "rows.onnx", text, t=array(4, 9))
    ids = np.array([[0, -1, 3], [8, 8, -9]], np.int64)
    (found,) = evaluate(load(path), {"x": ids}).values()
    assert found.dtype == np.float64
    assert np.array_equal(found, np.take(array(4, 9).astype(np.float64), ids, axis=1))
