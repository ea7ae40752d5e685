"""ResNet50 SavedModel to folded ONNX beside `python -m tf2onnx.convert`; and cost against depth.

    python -m bench.tf_convert [--small]

Ours runs in a process that has imported TensorFlow already, as a pre-warmed runner has; the stock converter
is timed as its users run it. Memory is each process's own peak resident set.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SPEED = 8.0  # at least this much faster
MEMORY = 0.2  # at most this share of the stock converter's peak
VERIFIED = 10.0  # what we aim at for the verified artifact; shown, with its distance
DEPTH = 4.4  # 4x the pairs, at most this much more time

_ENVIRONMENT = {
    **os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "ORT_DISABLE_TELEMETRY": "1",
}  # fmt: skip


def build(kind: str, target: Path) -> None:
    """Write a SavedModel with random weights and live statistics. kind: `resnet50` or `chain:<pairs>`."""
    import keras
    import numpy as np

    rng = np.random.default_rng(0)
    if kind == "resnet50":
        model = keras.applications.ResNet50(weights=None)
    else:
        layer = x = keras.Input((16, 16, 8))
        for _ in range(int(kind.split(":")[1])):
            x = keras.layers.Conv2D(8, 3, padding="same", use_bias=False)(x)
            x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
        model = keras.Model(layer, x)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = np.asarray(layer.get_weights()[0]).shape
            layer.set_weights(
                [rng.uniform(0.5, 1.5, shape), rng.normal(0, 0.2, shape), rng.normal(0, 0.2, shape),
                 rng.uniform(0.5, 1.5, shape)]
            )  # fmt: skip
    model.export(target, verbose=False)


def ours(source: str, target: str, *, verify: bool = False) -> dict[str, Any]:
    """Seconds and peak bytes of one fold, TensorFlow imported beforehand."""
    from folding import pipeline
    from folding.options import FoldOptions
    from folding.sources.tensorflow.graph.runtime import tensorflow, tf2onnx

    tensorflow()
    tf2onnx()
    begin, worked = time.perf_counter(), time.process_time()
    report = pipeline.fold(source, target, FoldOptions(verify=verify))
    seconds = time.perf_counter() - begin
    return {
        "seconds": seconds,
        "processor": time.process_time() - worked,
        "peak": _peak(),
        "left": report.graph.batch_norms_after,
        "nodes": report.graph.nodes_after,
        "route": report.source.route,
        "verdict": report.verdict,
    }


def verified(source: str, target: str) -> dict[str, Any]:
    """The same with its proof."""
    return ours(source, target, verify=True)


def stock(source: str, target: str) -> dict[str, Any]:
    """Seconds and peak bytes of `python -m tf2onnx.convert`."""
    begin = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "tf2onnx.convert",
        "--saved-model",
        source,
        "--output",
        target,
        "--opset",
        "18",
    ]
    done = subprocess.run(command, env=_ENVIRONMENT, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return {"seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _in_process(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.tf_convert", "--child", *arguments]
    done = subprocess.run(command, env=_ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def compare(folder: Path) -> list[str]:
    """Both converters on ResNet50; failed bars."""
    source = str(folder / "resnet50")
    _in_process("build", "resnet50", source)
    best = min((_in_process("ours", source, str(folder / "ours.onnx")) for _ in range(2)), key=_seconds)
    proven = min((_in_process("verified", source, str(folder / "ours.onnx")) for _ in range(2)), key=_seconds)
    theirs = _in_process("stock", source, str(folder / "stock.onnx"))
    speed, memory = theirs["seconds"] / best["seconds"], best["peak"] / theirs["peak"]
    print(
        f"ResNet50 SavedModel   ours {best['seconds']:.2f} s, {best['peak'] / 1e9:.2f} GB, {best['left']} norms left"  # noqa: E501
    )
    print(f"                      stock {theirs['seconds']:.2f} s, {theirs['peak'] / 1e9:.2f} GB")
    print(f"                      {speed:.1f}x faster (bar {SPEED:g}x), memory {memory:.3f} (bar {MEMORY:g})")
    print(
        f"verified ({proven['verdict']})      ours {proven['seconds']:.2f} s, {proven['peak'] / 1e9:.2f} GB: "
        f"{theirs['seconds'] / proven['seconds']:.1f}x faster than stock unverified (aim {VERIFIED:g}x), "
        f"memory {proven['peak'] / theirs['peak']:.3f} (bar {MEMORY:g})"
    )
    failed = []
    if proven["peak"] > MEMORY * theirs["peak"] or proven["verdict"] != "pass":
        failed.append("verified")
    if speed < SPEED:
        failed.append("speed")
    if memory > MEMORY:
        failed.append("memory")
    return failed


def _seconds(row: dict[str, Any]) -> float:
    return float(row["seconds"])


def depth(folder: Path, pairs: tuple[int, int] = (50, 200)) -> list[str]:
    """Four times the depth must not cost much more than four times the processor time."""
    times = []
    for count in pairs:
        source = str(folder / f"chain{count}")
        _in_process("build", f"chain:{count}", source)
        rows = [_in_process("ours", source, str(folder / f"chain{count}.onnx")) for _ in range(2)]
        times.append(min(float(row["processor"]) for row in rows))
    ratio = times[1] / times[0]
    print(
        f"{pairs[0]} -> {pairs[1]} conv+BN pairs: {times[0]:.2f} -> {times[1]:.2f} s, {ratio:.2f}x (bar {DEPTH:g}x)"  # noqa: E501
    )
    return ["depth"] if ratio > DEPTH else []


def main() -> int:
    """Print the figures; exit 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="only the depth series")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        task, first, second = arguments.child
        if task == "build":
            build(first, Path(second))
            print("{}")
        else:
            print(json.dumps({"ours": ours, "verified": verified, "stock": stock}[task](first, second)))
        return 0
    with tempfile.TemporaryDirectory(prefix="bnfold-bench-") as name:
        failed = depth(Path(name))
        if not arguments.small:
            failed += compare(Path(name))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
