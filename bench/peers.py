"""One optimizer on one file, each as its users call it. `python -m bench.peers TOOL SRC DST` prints JSON."""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

Work = Callable[[Path, Path], None]


def bnfold() -> Work:
    from folding.options import FoldOptions
    from folding.pipeline import fold

    def run(src: Path, dst: Path) -> None:
        fold(src, dst, FoldOptions(verify=False))

    return run


def onnxsim() -> Work:
    import onnx
    import onnxsim as tool

    def run(src: Path, dst: Path) -> None:
        model, _ = tool.simplify(str(src))
        onnx.save(model, dst)

    return run


def onnxslim() -> Work:
    import onnx
    import onnxslim as tool

    def run(src: Path, dst: Path) -> None:
        onnx.save(tool.slim(str(src)), dst)

    return run


def onnxoptimizer() -> Work:
    import onnx
    import onnxoptimizer as tool

    def run(src: Path, dst: Path) -> None:
        model = tool.optimize(onnx.load(src), tool.get_fuse_and_elimination_passes(), fixed_point=True)
        onnx.save(model, dst)

    return run


def onnxscript() -> Work:
    import onnx_ir
    from onnxscript import optimizer

    def run(src: Path, dst: Path) -> None:
        model = onnx_ir.load(src)
        optimizer.optimize(model)
        onnx_ir.save(model, dst)

    return run


def _ort(level: str) -> Work:
    import onnxruntime

    def run(src: Path, dst: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        options.optimized_model_filepath = str(dst)
        options.log_severity_level = 3
        onnxruntime.InferenceSession(str(src), options, providers=["CPUExecutionProvider"])

    return run


def ort_basic() -> Work:
    return _ort("ORT_ENABLE_BASIC")


def ort_all() -> Work:
    return _ort("ORT_ENABLE_ALL")


def load_save() -> Work:
    """No optimizer: the floor of time and memory."""
    import onnx

    def run(src: Path, dst: Path) -> None:
        onnx.save(onnx.load(src), dst)

    return run


# ort_all writes com.microsoft operators for this very CPU: printed for information, no artifact to deploy.
PEERS: dict[str, Callable[[], Work]] = {
    "bnfold": bnfold,
    "onnxsim": onnxsim,
    "onnxslim": onnxslim,
    "onnxoptimizer": onnxoptimizer,
    "onnxscript": onnxscript,
    "ort_basic": ort_basic,
    "ort_all": ort_all,
    "load_save": load_save,
}


def peak_kib() -> int:
    """Peak memory of this process. Linux counts the parent's in `ru_maxrss` until more is used here."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(tool: str, src: str, dst: str, repeat: int = 1) -> None:
    """Import outside the clock, run `repeat` times, print seconds (best) and peak RSS of the process."""
    logging.disable(logging.WARNING)
    work = PEERS[tool]()
    before = peak_kib()
    seconds, processor = [], []
    for _ in range(repeat):
        start, used = time.perf_counter(), time.process_time()
        work(Path(src), Path(dst))
        seconds.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
    peak = peak_kib()
    figures = {
        "seconds": min(seconds),
        "processor": min(processor),
        "first": seconds[0],
        "rss_mb": peak / 1024,
        "import_mb": before / 1024,
    }
    sys.stdout.write("\n" + json.dumps(figures) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 1)
