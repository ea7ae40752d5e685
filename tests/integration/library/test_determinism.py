"""The same model gives the same bytes, in another process and under another order of hashes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_FOLD = """
import sys
from pathlib import Path
from folding import pipeline
from folding.options import FoldOptions
pipeline.fold(Path(sys.argv[1]), Path(sys.argv[2]), FoldOptions(verify=False))
"""


def network(path: Path) -> None:
    """Branches, shared weights, layouts and constants: whatever a set or a dict might order anew."""
    rng = np.random.default_rng(3)
    arrays = {f"w{i}": rng.normal(size=(6, 6, 1, 1)) for i in range(4)}
    arrays |= {f"{role}{i}": rng.uniform(0.5, 1.5, 6) for i in range(6) for role in "gbmv"}
    nodes, value = [], "x"
    for i in range(6):
        join = ["Add", "Concat", "Mul"][i % 3]
        nodes += [
            helper.make_node("Conv", [value, f"w{i % 4}"], [f"c{i}"]),
            helper.make_node("BatchNormalization", [f"c{i}", *(f"{r}{i}" for r in "gbmv")], [f"n{i}"]),
            helper.make_node("Transpose", [f"n{i}"], [f"t{i}"], perm=[0, 2, 3, 1]),
            helper.make_node("Relu", [f"t{i}"], [f"r{i}"]),
            helper.make_node("Transpose", [f"r{i}"], [f"u{i}"], perm=[0, 3, 1, 2]),
            helper.make_node("Add" if join == "Concat" else join, [f"u{i}", value], [f"s{i}"]),
        ]
        value = f"s{i}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 6, 5, 5]) for name in ("x", value)]
    graph = helper.make_graph(
        nodes, "g", ends[:1], ends[1:],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_hash_order_does_not_show(tmp_path: Path) -> None:
    source = tmp_path / "source.onnx"
    network(source)
    digests = set()
    for seed in ("0", "1", "4242"):
        target = tmp_path / f"{seed}.onnx"
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", _FOLD, str(source), str(target)], check=True, env=environment)
        digests.add(hashlib.sha256(target.read_bytes()).hexdigest())
    assert len(digests) == 1
