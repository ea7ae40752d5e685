"""Weights of a TensorFlow.js model out of its shards, dequantized.

tf2onnx's reader calls `numpy.product`, which NumPy 2 has not, and reads the first group only.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from folding.sources.gates.limits import LIMITS, corrupt
from folding.sources.gates.tfjs import CODE, GZIP, TfjsModel, WeightEntry, WeightGroup, inflate

_LENGTH = struct.Struct("<I")


def read(model: TfjsModel, folder: Path) -> dict[str, np.ndarray]:
    """Every weight by name. Raises CorruptModel where strings run past the end, or a shard's sizes lie."""
    found: dict[str, np.ndarray] = {}
    for group in model.groups:
        data = _shards(group, folder, compressed=model.compressed)
        found.update({weight.name: array(weight, data) for weight in group.weights})
    return found


def _shards(group: WeightGroup, folder: Path, *, compressed: bool) -> bytes:
    declared = sum(weight.length or 0 for weight in group.weights)
    texts = any(weight.length is None for weight in group.weights)
    most = LIMITS.config_bytes + declared if texts else declared
    parts, size = [], 0
    for path in group.paths:
        data = (folder / path).read_bytes()
        if compressed and data[:2] == GZIP:
            data = inflate(data, most - size, path)
        parts.append(data)
        size += len(data)
    if size < declared or (not texts and size != declared):
        corrupt(f"The manifest declares {declared} bytes of weights, and the shards hold {size}.", code=CODE)
    return b"".join(parts)


def array(weight: WeightEntry, data: bytes) -> np.ndarray:
    """One weight: `value = stored * scale + min` where it is quantized, in float32 as TensorFlow.js does."""
    count = math.prod(weight.shape)
    if weight.dtype == "string":
        return _strings(weight, data, count)
    quantization = weight.quantization
    stored = np.frombuffer(
        data, np.dtype(quantization["dtype"] if quantization else weight.dtype), count, weight.offset
    )
    if quantization and "scale" in quantization:
        real = stored.astype(np.float32) * np.float32(quantization["scale"]) + np.float32(quantization["min"])
        stored = np.round(real) if weight.dtype == "int32" else real
    return stored.astype(weight.dtype).reshape(weight.shape)


def _strings(weight: WeightEntry, data: bytes, count: int) -> np.ndarray:
    """Each string: four bytes of length, then the text."""
    at, texts = weight.offset, []
    for _ in range(count):
        if at + 4 > len(data):
            corrupt(f"Weight {weight.name!r} has {count} strings, more than its bytes.", code=CODE)
        length = _LENGTH.unpack_from(data, at)[0]
        at += 4
        if at + length > len(data):
            corrupt(f"A string of weight {weight.name!r} runs past the end.", code=CODE)
        texts.append(data[at : at + length])
        at += length
    return np.array(texts, dtype=object).reshape(weight.shape)
