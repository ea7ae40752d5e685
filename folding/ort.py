"""The one door to ONNX Runtime: telemetry off, quiet, sessions by optimization level."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from folding.sources.base import Feeds

LEVELS = ("disable_all", "enable_all")
Provider = str | tuple[str, dict[str, Any]]
# Element types that the runtime computes with and has no NumPy array for.
UNREADABLE = frozenset(f"tensor({kind})" for kind in (
    "bfloat16", "int4", "uint4", "int2", "uint2", "float4e2m1",
    "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz",
))  # fmt: skip


@cache
def runtime() -> Any:
    """The onnxruntime module, with telemetry switched off before and after its import."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    onnxruntime.set_default_logger_severity(4)
    return onnxruntime


def processors() -> int:
    """How many cores this process may use: as many threads as the runtime would take by itself.

    A number that is given makes the runtime leave its threads unpinned. Its own choice pins them, and a
    pinned thread waits for a busy core while another is idle: a short run takes up to half as long again.
    """
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    return min(cores, len(os.sched_getaffinity(0))) if sys.platform == "linux" else cores


class OrtSession:
    """One loaded model; `run` answers by name. Satisfies `verify.base.Session`."""

    def __init__(
        self,
        model: Path | bytes,
        level: str = "disable_all",
        *,
        providers: Sequence[Provider] = ("CPUExecutionProvider",),
        disabled_optimizers: Sequence[str] = (),
        threads: int = 0,
        folder: Path | None = None,
        entries: Mapping[str, str] | None = None,
    ) -> None:
        """Open a session.

        Args:
            model: a file, or serialized bytes (then `folder` is where external weights lie).
            level: `disable_all`, `enable_basic`, `enable_extended`, `enable_layout` or `enable_all`.
            threads: intra-op threads; 0 for one a core, `processors()`.
            entries: further session configuration entries.

        Raises:
            onnxruntime's own exceptions when the model cannot be loaded; callers turn them into rows.
        """
        ort = runtime()
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_{level.upper()}")
        options.intra_op_num_threads = threads or processors()
        if folder is not None:
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", str(folder)
            )
        for key, value in (entries or {}).items():
            options.add_session_config_entry(key, value)
        self._session = ort.InferenceSession(
            str(model) if isinstance(model, Path) else model,
            options,
            providers=list(providers),
            disabled_optimizers=list(disabled_optimizers) or None,
        )
        self.inputs: list[Any] = list(self._session.get_inputs())
        self.outputs: list[Any] = list(self._session.get_outputs())
        overridable = self._session.get_overridable_initializers()
        self.input_names = [value.name for value in (*self.inputs, *overridable)]
        self.output_names = [value.name for value in self.outputs]
        self.readable = {value.name for value in self.outputs if value.type not in UNREADABLE}

    @property
    def providers(self) -> list[str]:
        """Execution providers that the session really got, in order."""
        return list(self._session.get_providers())

    def run(self, feeds: Feeds, names: Sequence[str] | None = None) -> Feeds:
        """Outputs by name, or those in `names`; what `feeds` has beyond the inputs is left out."""
        known = {name: feeds[name] for name in self.input_names if name in feeds}
        names = self.output_names if names is None else names
        values = self._session.run(names, known)
        return {name: as_array(value) for name, value in zip(names, values, strict=True)}


def as_array(value: Any) -> np.ndarray[Any, Any]:
    """An output as an array; sequences of tensors are joined flat, absent optionals become empty."""
    if isinstance(value, np.ndarray):
        return value
    if value is None:
        return np.empty(0, np.float32)
    if isinstance(value, list) and all(isinstance(item, np.ndarray) for item in value):
        return np.concatenate([np.ravel(item) for item in value]) if value else np.empty(0, np.float32)
    return np.asarray(value)
