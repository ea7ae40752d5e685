"""Sessions as deployers open them, and bare ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def session(path: Path, *, optimize: bool = True) -> Any:
    """An ONNX Runtime session on the CPU, at the defaults that deployers use or with nothing optimized."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
