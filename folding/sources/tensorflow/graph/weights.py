"""Weights as checkpoints and bundles hold them: named arrays, read one at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from folding.errors import CorruptModel
from folding.sources.tensorflow.graph.checkpoint_prefix import Prefix
from folding.sources.tensorflow.graph.program import Slot, Weights
from folding.sources.tensorflow.graph.runtime import tensorflow


class CheckpointWeights:
    """A checkpoint (V1 or V2, sharded or not) or a SavedModel's variables bundle."""

    def __init__(self, prefix: Prefix) -> None:
        """Open the index. Raises CorruptModel: `corrupt_checkpoint`, `missing_shard`."""
        self.prefix = prefix
        _all_shards(prefix)
        tf = tensorflow()
        try:
            # `tf.train.load_checkpoint` takes an empty prefix for a folder to search
            self._reader: Any = _reader(tf, prefix)
            self._shapes: dict[str, list[int]] = self._reader.get_variable_to_shape_map()
            self._types = self._reader.get_variable_to_dtype_map()
        except Exception as error:  # the reader maps statuses to whatever Python exception fits
            raise CorruptModel(
                f"The checkpoint index {prefix.shown!r} cannot be read: {_first_line(error)}",
                code="corrupt_checkpoint",
                hint="Copy the .index and .data files again; they must come from one save.",
            ) from error

    def names(self) -> Iterable[str]:
        """All keys, sorted."""
        return sorted(self._shapes)

    def has(self, name: str) -> bool:
        """Whether the checkpoint holds the key."""
        return name in self._shapes

    def describe(self, name: str) -> tuple[int, tuple[int, ...]]:
        """dtype enum and shape."""
        return int(self._types[name].as_datatype_enum), tuple(self._shapes[name])

    def read(self, name: str) -> np.ndarray:
        """The array, its checksum verified by the reader."""
        try:
            value = self._reader.get_tensor(name)
            # a scalar text arrives as bytes, whose last zeros numpy's own kind of text would lose
            return np.array(value, object) if isinstance(value, bytes) else np.asarray(value)
        except Exception as error:  # the reader maps statuses to whatever Python exception fits
            raise CorruptModel(
                f"The value of {name!r} cannot be read: {_first_line(error)}",
                code="corrupt_checkpoint",
                layer=name,
                hint="A .data file is damaged or truncated; copy the checkpoint again.",
            ) from error


class ArrayWeights:
    """Weights that are in memory already (Keras models, tests)."""

    def __init__(self, arrays: dict[str, Any]) -> None:
        """arrays: name -> array or zero-argument callable that returns one."""
        self._arrays = arrays

    def names(self) -> Iterable[str]:
        """All names."""
        return self._arrays

    def has(self, name: str) -> bool:
        """Whether the name is held."""
        return name in self._arrays

    def describe(self, name: str) -> tuple[int, tuple[int, ...]]:
        """dtype enum and shape."""
        tf = tensorflow()
        value = self._arrays[name]
        if callable(value):
            value = value()
        return int(tf.as_dtype(value.dtype).as_datatype_enum), tuple(value.shape)

    def read(self, name: str) -> np.ndarray:
        """The array."""
        value = self._arrays[name]
        return np.asarray(value() if callable(value) else value)


def read_slot(weights: Weights, slot: Slot) -> np.ndarray:
    """The value of a variable: all of a key's array, or the part that a partition holds."""
    value = weights.read(slot.key)
    if not slot.slice_spec:
        return value
    return value[slice_of(slot.slice_spec)]


def slice_of(spec: str) -> tuple[slice, ...]:
    """TensorFlow's `shape_and_slice`: `10 5 0,5:-` is rows 0..5 of a (10, 5) array."""
    part = spec.split(" ")[-1]
    if not re.fullmatch(r"(-|\d+,\d+)(:(-|\d+,\d+))*", part):
        raise CorruptModel(f"The slice {spec!r} is malformed.", code="corrupt_checkpoint")
    slices = []
    for item in part.split(":"):
        if item == "-":
            slices.append(slice(None))
            continue
        start, length = (int(number) for number in item.split(","))
        slices.append(slice(start, start + length))
    return tuple(slices)


def _reader(tf: Any, prefix: Prefix) -> Any:
    if prefix.name:
        return tf.train.load_checkpoint(str(prefix))
    from tensorflow.python.training.py_checkpoint_reader import NewCheckpointReader

    return NewCheckpointReader(str(prefix))


def _all_shards(prefix: Prefix) -> None:
    """Every shard of `-of-N` must be there; TensorFlow itself would say so only at the first read."""
    shards = sorted(prefix.folder.glob(f"{_literal(prefix.name)}.data-*-of-*"))
    if not prefix.file(".index").exists():
        return
    counts = {int(path.name.rsplit("-", 1)[1]) for path in shards if path.name.rsplit("-", 1)[1].isdigit()}
    if not shards or len(counts) != 1 or len(shards) != counts.pop():
        total = shards[0].name.rsplit("-", 1)[1] if shards else "00001"
        have = ", ".join(path.name for path in shards) or "none"
        raise CorruptModel(
            f"The checkpoint {prefix.shown!r} has {int(total)} data shard(s); present: {have}.",
            code="missing_shard",
            hint="Upload every .data-?????-of-????? file of the checkpoint.",
        )


def _literal(name: str) -> str:
    return re.sub(r"([\[\]*?])", r"[\1]", name)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return re.sub(r"/\S*/", "", text[0])[:300] if text else type(error).__name__
