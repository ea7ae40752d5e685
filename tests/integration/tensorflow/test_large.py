"""Past 2 GiB: no message of protobuf's holds such a model; its weights are streamed beside the graph.

The short form lowers the threshold; the long one (`-m slow`) writes 2.3 GiB of embeddings and measures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from folding import export, pipeline
from folding.options import FoldOptions

WIDTH = 1024
MAKE = """
import sys
import numpy as np
from folding.sources.tensorflow.graph.runtime import tensorflow
tf = tensorflow()
v1, rows, folder = tf.compat.v1, int(sys.argv[1]), sys.argv[2]
rng = np.random.default_rng(0)
with v1.Graph().as_default(), v1.Session() as session:
    ids = v1.placeholder("int32", [None, 4], "ids")
    start = v1.random_uniform_initializer(-1, 1, seed=1)
    table = v1.get_variable("table", [rows, 1024], initializer=start, use_resource=True)
    h = tf.reshape(tf.reduce_mean(v1.nn.embedding_lookup(table, ids), 1), [-1, 16, 16, 4])
    make = lambda name, *shape: v1.get_variable(
        name, initializer=rng.uniform(0.5, 1.5, shape).astype("f"), use_resource=True
    )
    h = v1.nn.conv2d(h, make("w", 3, 3, 4, 8), [1, 1, 1, 1], "SAME")
    gamma, beta, mean, variance = (
        make("bn/" + role, 8) for role in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    y = v1.nn.fused_batch_norm(h, gamma, beta, mean, variance, 1e-3, is_training=False)[0]
    out = tf.nn.relu(y, name="out")
    session.run(v1.global_variables_initializer())
    v1.train.Saver().save(session, folder + "/ckpt/model.ckpt")
    v1.saved_model.simple_save(session, folder + "/saved", {"ids": ids}, {"out": out})
    x = np.array([[0, 1, 2, 3], [rows - 1, rows - 2, 5, 9]], np.int32)
    np.savez(folder + "/probe.npz", ids=x, out=session.run(out, {ids: x}))
"""
FOLD = """
import json, resource, sys, time
from folding import pipeline
from folding.options import FoldOptions
begin = time.perf_counter()
names = ["out:0"] if "ckpt" in sys.argv[1] else []
report = pipeline.fold(sys.argv[1], sys.argv[2], FoldOptions(outputs=names, verify=False))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"peak": peak, "seconds": time.perf_counter() - begin,
                  "folded": [norm.decision for norm in report.batch_norms]}))
"""


def _python(code: str, *arguments: str) -> str:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def _answers(artifact: Path, folder: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(artifact), providers=["CPUExecutionProvider"])
    with np.load(folder / "probe.npz") as held:
        (given,) = session.get_inputs()
        (got,) = session.run(None, {given.name: held["ids"]})
        # sums of 36 products of order one, in another order
        np.testing.assert_allclose(got, held["out"], rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["ckpt", "saved"])
def test_weights_beside_the_graph(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _python(MAKE, "600", str(tmp_path))
    monkeypatch.setattr(export, "EXTERNAL_ABOVE", 1 << 20)
    names = ["out:0"] if form == "ckpt" else []
    report = pipeline.fold(tmp_path / form, tmp_path / "out.onnx", FoldOptions(outputs=names))
    assert report.verdict.value == "pass", report.summary
    assert [norm.decision for norm in report.batch_norms] == ["folded"]
    assert (tmp_path / "out.onnx.data").stat().st_size >= 600 * WIDTH * 4
    assert (tmp_path / "out.onnx").stat().st_size < 1 << 16
    onnx.checker.check_model(str(tmp_path / "out.onnx"))
    _answers(tmp_path / "out.onnx", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["ckpt", "saved"])
def test_more_than_two_gibibytes(form: str, tmp_path: Path) -> None:
    rows = 600_000
    _python(MAKE, str(rows), str(tmp_path))
    told = json.loads(_python(FOLD, str(tmp_path / form), str(tmp_path / "out.onnx")).splitlines()[-1])
    weights = rows * WIDTH * 4
    assert weights > 2**31
    assert told["folded"] == ["folded"]
    assert told["peak"] < 1.6 * weights  # one copy, TensorFlow itself, and room
    assert (tmp_path / "out.onnx.data").stat().st_size >= weights
    _answers(tmp_path / "out.onnx", tmp_path)
    size, seconds, peak = weights / 1e9, told["seconds"], told["peak"] / 1e9
    print(f"{form}: {size:.2f} GB of weights in {seconds:.0f} s, peak {peak:.2f} GB")
