"""What a runner imports, and runs once on nothing, before it gets a job. It is jailed by then."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable
from typing import Final

ONNX_MODULES: Final = (
    "numpy", "onnx", "onnx_ir", "onnxruntime", "folding.pipeline", "folding.verify", "folding.calibrate",
)  # fmt: skip
TENSORFLOW_MODULES: Final = (
    "h5py", "tensorflow", "tf2onnx", "tf2onnx.tfonnx", "tf2onnx.convert", "ai_edge_litert.interpreter",
)  # fmt: skip
MODULES: Final = ONNX_MODULES + TENSORFLOW_MODULES


def warm(modules: Iterable[str] = MODULES) -> dict[str, float]:
    """Import each module that is installed.

    Returns: seconds by module name; one that is missing or broken is left out: the job that needs it says so.
    """
    seconds = {}
    for name in modules:
        start = time.perf_counter()
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        seconds[name] = round(time.perf_counter() - start, 4)
    return seconds
