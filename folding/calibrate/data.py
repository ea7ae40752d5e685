"""The user's arrays as the model wants them, and in chunks that memory holds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from folding.errors import UsageError
from folding.ir.types import Feeds

CHUNK_BYTES = 1 << 30  # activations of one chunk; leaves room for the model in a 4 GiB job
MAX_CHUNK = 4096
_LIVE = 6  # activations of the largest size that are alive together, with what training mode adds


def fit(model: ir.Model, calibration: Feeds) -> tuple[Feeds, list[str]]:
    """The arrays by graph input, in its dtype; names of arrays that are no input. Raises UsageError."""
    wanted = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    data: Feeds = {}
    used: set[str] = set()
    for value in wanted:
        name = value.name or ""
        key = next((key for key in (name, name.split(":")[0]) if key in calibration), None)
        if key is None:
            raise UsageError(
                f"The calibration data has no array {name!r}; it has "
                f"{', '.join(sorted(calibration)) or 'none'}.",
                code="calibration_data",
                layer=name,
                hint=f"Save it with numpy.savez(path, **{{{name!r}: array}}), first axis the batch.",
                details={"inputs": [v.name for v in wanted]},
            )
        used.add(key)
        data[name] = _fitting(value, np.asarray(calibration[key]))
    lengths = {name: len(array) for name, array in data.items()}
    if not data or min(lengths.values()) == 0 or len(set(lengths.values())) > 1:
        raise UsageError(
            f"The calibration arrays must be equally long and not empty; their lengths are {lengths}.",
            code="calibration_data",
        )
    return data, sorted(set(calibration) - used)


def _fitting(value: ir.Value, array: np.ndarray) -> np.ndarray:
    name = value.name or ""
    shape = list(value.shape) if value.shape is not None else None
    fits = array.ndim > 0 and (
        shape is None
        or (
            len(shape) == array.ndim
            and all(not isinstance(d, int) or d == n for d, n in zip(shape[1:], array.shape[1:], strict=True))
        )
    )
    if not fits:
        raise UsageError(
            f"Calibration array {name!r} has shape {list(array.shape)}; the input is declared as {shape}.",
            code="calibration_data",
            layer=name,
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UsageError(
            f"Calibration array {name!r} holds NaN or infinity.", code="calibration_data", layer=name
        )
    if value.dtype is not None and array.dtype.kind in "fiub":
        array = array.astype(value.dtype.numpy(), copy=False)
    return array


def chunk_size(model: ir.Model, data: Feeds, samples: int) -> int:
    """Examples per run: the graph's own batch size where it is fixed, else what `CHUNK_BYTES` allows."""
    for value in model.graph.inputs:
        if (
            value.name in data
            and value.shape is not None
            and len(value.shape)
            and isinstance(value.shape[0], int)
        ):
            return min(int(value.shape[0]), samples)
    largest = max(int(np.prod(array.shape[1:], dtype=np.int64)) for array in data.values())
    for node in model.graph:
        for output in node.outputs:
            if output.shape is not None:
                dims = [dim for dim in output.shape if isinstance(dim, int)]
                largest = max(largest, int(np.prod(dims, dtype=np.int64)))
    return max(1, min(samples, MAX_CHUNK, CHUNK_BYTES // (4 * _LIVE * largest)))


def chunks(data: Feeds, size: int) -> Iterator[Feeds]:
    """The data in pieces of `size` examples; the last one holds the rest."""
    samples = len(next(iter(data.values())))
    for start in range(0, max(samples - size, 0) + 1, size):
        yield {name: array[start : start + size] for name, array in data.items()}
    rest = samples % size
    if rest and samples > size:
        yield {name: array[samples - rest :] for name, array in data.items()}
