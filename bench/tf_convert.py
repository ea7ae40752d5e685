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
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from bench.targets import Target, ratios, report, rounds

VERIFIED = Target("ResNet50 SavedModel, warm, verified: times faster", 10.0, at_least=True)
SPEED = Target("the same, unverified: times faster", 12.0, at_least=True)
COMMAND = Target("whole cold command, verified: share of stock's time", 0.35)
MEMORY = Target("peak memory, verified: share of stock's", 0.2)
DEPTH = Target("processor time, 200 against 50 conv+BN pairs", 4.4)

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


def command(source: str, target: str) -> dict[str, Any]:
    """Seconds of the whole cold command, verified, in its sandbox."""
    begin = time.perf_counter()
    call = [sys.executable, "-m", "bnfold", "fold", source, "-o", target, "--quiet"]
    done = subprocess.run(call, env=_ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return {"seconds": time.perf_counter() - begin}


TASKS = {"ours": ours, "verified": verified, "stock": stock, "command": command}


def compare(folder: Path) -> list[str]:
    """Both converters on ResNet50; names of the targets that are missed."""
    source = str(folder / "resnet50")
    _in_process("build", "resnet50", source)
    peaks: dict[str, list[float]] = {}

    def seconds(task: str) -> float:
        row = _in_process(task, source, str(folder / f"{task}.onnx"))
        peaks.setdefault(task, []).append(float(row.get("peak", 0)))
        if row.get("verdict", "pass") != "pass" and task == "verified":
            raise SystemExit(f"the fold of ResNet50 is {row['verdict']}")
        return float(row["seconds"])

    tasks = ("stock", "verified", "ours", "command")
    found = rounds({task: partial(seconds, task) for task in tasks})
    for task in tasks:
        print(f"  {task:<10} {statistics.median(found[task]):6.2f} s, {max(peaks[task]) / 1e9:.2f} GB")
    return report([
        (VERIFIED, ratios(found["stock"], found["verified"])),
        (SPEED, ratios(found["stock"], found["ours"])),
        (COMMAND, ratios(found["command"], found["stock"])),
        (MEMORY, ratios(peaks["verified"], peaks["stock"])),
    ])  # fmt: skip


def depth(folder: Path, pairs: tuple[int, int] = (50, 200)) -> list[str]:
    """Four times the depth must not cost much more than four times the processor time."""

    def processor(count: int) -> float:
        source = str(folder / f"chain{count}")
        return float(_in_process("ours", source, source + ".onnx")["processor"])

    for count in pairs:
        _in_process("build", f"chain:{count}", str(folder / f"chain{count}"))
    found = rounds({str(count): partial(processor, count) for count in pairs})
    return report([(DEPTH, ratios(found[str(pairs[1])], found[str(pairs[0])]))])


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
            print(json.dumps(TASKS[task](first, second)))
        return 0
    with tempfile.TemporaryDirectory(prefix="bnfold-bench-") as name:
        failed = depth(Path(name))
        if not arguments.small:
            failed += compare(Path(name))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
