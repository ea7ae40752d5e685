"""The one door to ONNX Runtime: telemetry off, quiet, sessions by optimization level."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import psutil
from onnx import helper

from folding.ir.types import Feeds

LEVELS = ("disable_all", "enable_all")
Provider = str | tuple[str, dict[str, Any]]
# Element types for which the runtime's own binding has no NumPy array: they travel as OrtValues.
NARROW: dict[str, np.dtype[Any]] = {
    f"tensor({name})": np.dtype(getattr(ml_dtypes, kind))
    for name, kind in (
        ("bfloat16", "bfloat16"),
        ("float8e4m3fn", "float8_e4m3fn"),
        ("float8e4m3fnuz", "float8_e4m3fnuz"),
        ("float8e5m2", "float8_e5m2"),
        ("float8e5m2fnuz", "float8_e5m2fnuz"),
        ("int4", "int4"),
        ("uint4", "uint4"),
        ("int2", "int2"),
        ("uint2", "uint2"),
    )
}
# Those that nothing here reads or writes.
UNREADABLE = frozenset(("tensor(float4e2m1)",))
BITS = {"int4": 4, "uint4": 4, "int2": 2, "uint2": 2}  # of the integers that share a byte
SHAPES = "/shapes"  # beside the joined elements of a sequence: rank and dims of each


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
        lean: bool = False,
    ) -> None:
        """Open a session.

        Args:
            model: a file, or serialized bytes (then `folder` is where external weights lie).
            level: `disable_all`, `enable_basic`, `enable_extended`, `enable_layout` or `enable_all`.
            threads: intra-op threads; 0 for one a core, `processors()`.
            entries: further session configuration entries.
            lean: give memory back after each run. A session otherwise keeps what its largest run took,
                twice that from the second run on: much, where several are open and activations are large.

        Raises:
            onnxruntime's own exceptions when the model cannot be loaded; callers turn them into rows.
        """
        ort = runtime()
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_{level.upper()}")
        options.intra_op_num_threads = threads or processors()
        if lean:
            options.enable_cpu_mem_arena = options.enable_mem_pattern = False
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
        self._types = {value.name: value.type for value in self.outputs}
        self._sequences = {value.name for value in self.inputs if "seq(" in value.type}
        self._narrow_inputs = any(value.type in NARROW for value in (*self.inputs, *overridable))
        self.tensors = {name for name, kind in self._types.items() if readable_tensor(kind)}

    @property
    def providers(self) -> list[str]:
        """Execution providers that the session really got, in order."""
        return list(self._session.get_providers())

    def run(self, feeds: Feeds, names: Sequence[str] | None = None) -> Feeds:
        """Return outputs by name, or those in `names`; what `feeds` has beyond the inputs is left out.

        bfloat16 and 8-bit floats come back as float32, 4-bit integers as int8: both hold every value of
        theirs. A sequence comes back as its elements joined flat, with their shapes under `<name>/shapes`.
        """
        known = {name: self._feed(name, feeds[name]) for name in self.input_names if name in feeds}
        names = self.output_names if names is None else names
        if self._narrow_inputs or any(self._types[name] in NARROW for name in names):
            values = self._run_as_values(known, names)
        else:
            values = self._session.run(names, known)
        found: Feeds = {}
        for name, value in zip(names, values, strict=True):
            found[name] = as_array(value)
            if isinstance(value, list):
                found[name + SHAPES] = shapes_of(value)
        return found

    def _feed(self, name: str, array: Any) -> Any:
        """A feed as the runtime takes it: a sequence is a list."""
        return list(array) if name in self._sequences else np.asarray(array)

    def _run_as_values(self, feeds: dict[str, Any], names: Sequence[str]) -> list[Any]:
        """The same through OrtValues, which carry the element types that NumPy lacks."""
        known = {name: to_value(array) for name, array in feeds.items()}
        values = self._session.run_with_ort_values(list(names), known)
        return [from_value(value, self._types[name]) for name, value in zip(names, values, strict=True)]


def readable_tensor(kind: str) -> bool:
    """Whether a type, as the runtime writes it, is that of a tensor that an array can hold."""
    return kind.startswith("tensor(") and kind not in UNREADABLE


def to_value(array: np.ndarray[Any, Any]) -> Any:
    """An array as the runtime's own value."""
    make = runtime().OrtValue
    if array.dtype not in NARROW.values():
        return make.ortvalue_from_numpy(array)
    value = make.ortvalue_from_shape_and_type(array.shape, helper.np_dtype_to_tensor_dtype(array.dtype))
    stored = packed(array)
    if stored:
        ctypes.memmove(value.data_ptr(), stored, len(stored))
    return value


def packed(array: np.ndarray[Any, Any]) -> bytes:
    """The bytes of an array; integers narrower than a byte share one, the first in its lowest bits."""
    bits = BITS.get(array.dtype.name)
    if bits is None:
        return array.tobytes()
    share = 8 // bits
    values = array.astype(np.int8).view(np.uint8).reshape(-1) & ((1 << bits) - 1)
    values = np.append(values, np.zeros(-values.size % share, np.uint8)).reshape(-1, share)
    shifted = values << (bits * np.arange(share, dtype=np.uint8))
    joined: np.ndarray[Any, Any] = np.bitwise_or.reduce(shifted, axis=1).astype(np.uint8)
    return joined.tobytes()


def from_value(value: Any, kind: str) -> Any:
    """What a value holds: an array, a list of arrays, or None."""
    if kind not in NARROW or not value.has_value():
        return value.numpy() if value.has_value() and value.is_tensor() else None
    dtype, shape = NARROW[kind], tuple(value.shape())
    stored = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    if dtype.name in BITS:
        return unpacked(np.frombuffer(stored, np.uint8), dtype, shape)
    return np.frombuffer(stored, dtype).reshape(shape).astype(np.float32)


def unpacked(
    stored: np.ndarray[Any, Any], dtype: np.dtype[Any], shape: tuple[int, ...]
) -> np.ndarray[Any, Any]:
    """The integers of `packed`, as int8."""
    bits = BITS[dtype.name]
    share = 8 // bits
    parts = (stored[:, None] >> (bits * np.arange(share, dtype=np.uint8))) & ((1 << bits) - 1)
    values = parts.reshape(-1)[: int(np.prod(shape, dtype=np.int64))].astype(np.int8)
    if not dtype.name.startswith("u"):
        values = np.where(values >= 1 << (bits - 1), values - (1 << bits), values).astype(np.int8)
    return values.reshape(shape)


def as_array(value: Any) -> np.ndarray[Any, Any]:
    """An output as an array; sequences of tensors are joined flat, absent optionals become empty."""
    if isinstance(value, np.ndarray):
        return value
    if value is None:
        return np.empty(0, np.float32)
    if isinstance(value, list) and all(isinstance(item, np.ndarray) for item in value):
        return np.concatenate([np.ravel(item) for item in value]) if value else np.empty(0, np.float32)
    return np.asarray(value)


def shapes_of(values: list[Any]) -> np.ndarray[Any, Any]:
    """Rank and dims of each element of a sequence, one after the other."""
    return np.array([n for value in values for n in (np.ndim(value), *np.shape(value))], np.int64)


# Blocks channels for the processor at hand; what it makes runs on no other kind.
MACHINE_BOUND_OPTIMIZERS = ("NchwcTransformer",)


def save_ort_format(model: Path, out: Path) -> None:
    """Write the model in the runtime's own format, optimized for any processor.

    Raises: the runtime's own exceptions where it cannot load the model or write it.
    """
    ort = runtime()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(out)
    options.add_session_config_entry("session.save_model_format", "ORT")
    ort.InferenceSession(
        str(model), options, providers=["CPUExecutionProvider"],
        disabled_optimizers=list(MACHINE_BOUND_OPTIMIZERS),
    )  # fmt: skip


def required_operators(model: Path) -> str:
    """Return the operators and types of a model in ORT format, as a reduced build of the runtime reads them.

    The lines are those of the runtime's own tool, without the paths that it writes above them.
    """
    from onnxruntime.tools.ort_format_model import create_config_from_models

    target = model.with_name(model.name + ".config")
    try:
        create_config_from_models([model], target, enable_type_reduction=True)
        lines = [line for line in target.read_text().splitlines() if not line.startswith("#")]
    finally:
        target.unlink(missing_ok=True)
    return "\n".join(["# Operators that model.ort needs: build.py --include_ops_by_config", *lines]) + "\n"
