"""TensorFlow.js models: `model.json` and its shards, before anything is made of them.

The JSON is bounded in bytes and depth, shard paths are plain names below the model's folder that the upload
itself lists, and what the manifest declares has to be what the shards hold, byte for byte.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from folding.errors import BnfoldError, CorruptModel
from folding.sources.gates.limits import LIMITS, Limits, corrupt, refuse, shown

CODE: Final = "corrupt_tfjs"
# dtype of the manifest -> bytes of one stored element
ITEM_BYTES: Final = {
    "float32": 4,
    "int32": 4,
    "bool": 1,
    "uint8": 1,
    "uint16": 2,
    "float16": 2,
    "complex64": 8,
}
STORED: Final = {"uint8", "uint16", "float16"}  # what a quantized weight may be stored as
GZIP = b"\x1f\x8b"
_HEAD = 1 << 16
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_KEYS = (b'"modelTopology"', b'"weightsManifest"')


@dataclass(frozen=True)
class WeightEntry:
    """One weight of the manifest and where its bytes lie in the group's shards laid end to end."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    quantization: dict[str, Any] | None
    offset: int
    length: int | None  # None: strings, whose length only their bytes tell


@dataclass(frozen=True)
class WeightGroup:
    """Shards, in order, and the weights in them."""

    paths: tuple[str, ...]
    weights: tuple[WeightEntry, ...]


@dataclass(frozen=True)
class TfjsModel:
    """The document, and its weights by group; compressed: the shards are gzip files too."""

    document: dict[str, Any]
    groups: tuple[WeightGroup, ...]
    compressed: bool


def looks_like_model_json(path: Path) -> bool:
    """Whether the file is JSON, perhaps gzip, that names a topology or a manifest near one of its ends."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            if head[:2] == GZIP:
                head = zlib.decompressobj(31).decompress(head, _HEAD)
                tail = b""
            else:
                file.seek(max(0, path.stat().st_size - _HEAD))
                tail = file.read(_HEAD)
    except (OSError, zlib.error):
        return False
    return head.lstrip()[:1] == b"{" and any(key in head or key in tail for key in _KEYS)


def shard_names(path: Path, limits: Limits = LIMITS) -> list[str]:
    """Paths of the shards that a model.json names; none where something is wrong, which its reader finds."""
    try:
        document = _parse(_read(path, limits)[0], path.name, limits)
        listed = [name for group in document["weightsManifest"] for name in group["paths"]]
        return [shard_path(name, limits) for name in listed]
    except (BnfoldError, OSError, KeyError, TypeError):
        return []


def check_model_json(path: Path, root: Path, files: Iterable[str], limits: Limits = LIMITS) -> TfjsModel:
    """Read and check `path`, whose shards are among `files` below `root`.

    Raises: CorruptModel; UnsafeModel; CorruptModel `missing_shard`.
    """
    data, compressed = _read(path, limits)
    document = _parse(data, path.name, limits)
    for name in ("modelTopology", "weightsManifest"):
        if not isinstance(document.get(name), dict if name == "modelTopology" else list):
            corrupt(f"{path.name!r} has no {name}.", code=CODE)
    listed = {(root / name).resolve(): name for name in files}
    groups = tuple(
        _group(item, path.parent, listed, compressed, limits) for item in document["weightsManifest"]
    )
    names = [weight.name for group in groups for weight in group.weights]
    if len(set(names)) != len(names):
        corrupt("Two weights of the manifest have one name.", code=CODE)
    return TfjsModel(document, groups, compressed)


def _read(path: Path, limits: Limits) -> tuple[bytes, bool]:
    """The JSON's bytes, inflated under a limit where the file is gzip, as model hubs serve it."""
    with path.open("rb") as file:
        data = file.read(limits.config_bytes + 1)
    compressed = data[:2] == GZIP
    if compressed:
        data = inflate(data, limits.config_bytes, path.name)
    if len(data) > limits.config_bytes:
        refuse(
            "unsafe_config_size", f"{path.name!r} has more than {limits.config_bytes} bytes.",
            limit=limits.config_bytes, hint="A TensorFlow.js model keeps its weights in shards.",
        )  # fmt: skip
    return data, compressed


def inflate(data: bytes, most: int, name: str) -> bytes:
    """Inflate a gzip file to at most `most` bytes. Raises CorruptModel, UnsafeModel."""
    decoder = zlib.decompressobj(31)
    try:
        made = decoder.decompress(data, most + 1)
    except zlib.error as error:
        corrupt(f"{name!r} is no complete gzip file: {error}.", code=CODE)
    if len(made) > most or decoder.unconsumed_tail:
        refuse(
            "unsafe_archive_bomb", f"{name!r} inflates past {most} bytes.", limit=most,
            hint="Give the files uncompressed.",
        )  # fmt: skip
    if not decoder.eof:
        corrupt(f"{name!r} ends before its gzip stream does.", code=CODE)
    return made


def _parse(data: bytes, name: str, limits: Limits) -> dict[str, Any]:
    depth = deepest(data)
    if depth > limits.config_depth:
        refuse(
            "unsafe_config_depth", f"{name!r} nests {depth} deep; the limit is {limits.config_depth}.",
            limit=limits.config_depth, hint="Export the model again.",
        )  # fmt: skip
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CorruptModel(
            f"{name!r} is no complete JSON document: {str(error)[:200]}", code=CODE, hint="Copy it again."
        ) from error
    if not isinstance(document, dict):
        corrupt(f"{name!r} holds no JSON object.", code=CODE)
    return document


def deepest(data: bytes) -> int:
    """How deep brackets nest outside strings."""
    bare = np.frombuffer(_STRING.sub(b"", data), np.uint8)
    opened = np.isin(bare, list(b"[{")).astype(np.int64) - np.isin(bare, list(b"]}"))
    return int(np.max(np.cumsum(opened), initial=0))


def _group(item: Any, folder: Path, listed: dict[Path, str], compressed: bool, limits: Limits) -> WeightGroup:
    if not isinstance(item, dict) or not all(isinstance(item.get(key), list) for key in ("paths", "weights")):
        corrupt("A group of the weights manifest has no list of paths or of weights.", code=CODE)
    paths = tuple(shard_path(path, limits) for path in item["paths"])
    stored = 0
    for path in paths:
        place = (folder / path).resolve()
        if place not in listed:
            raise CorruptModel(
                f"The shard {shown(path)!r} is not among the files.",
                code="missing_shard", hint="Give model.json together with all of its .bin files.",
            )  # fmt: skip
        stored += place.stat().st_size
    weights, offset, open_end = [], 0, False
    for entry in item["weights"]:
        if open_end:
            corrupt("Weights follow a string weight in one group.", code=CODE)
        weight = _weight(entry, offset, limits)
        weights.append(weight)
        open_end = weight.length is None
        offset += weight.length or 0
    if not compressed and (offset > stored if open_end else offset != stored):
        corrupt(f"The manifest declares {offset} bytes of weights, and the shards hold {stored}.", code=CODE)
    return WeightGroup(paths, tuple(weights))


def shard_path(path: Any, limits: Limits = LIMITS) -> str:
    """A shard's path, when it is a plain relative one. Raises UnsafeModel `unsafe_shard_path`."""
    text = path if isinstance(path, str) else ""
    parts = text.split("/")
    plain = text.isprintable() and "\\" not in text and ":" not in text and len(text) <= limits.name_bytes
    if not text or not plain or any(part in ("", ".", "..") for part in parts):
        refuse(
            "unsafe_shard_path", f"The shard path {shown(path)!r} is no plain name below the model's folder.",
            name=path, hint="Save the model with its shards beside model.json.",
        )  # fmt: skip
    return text


def _weight(entry: Any, offset: int, limits: Limits) -> WeightEntry:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        corrupt("A weight of the manifest has no name.", code=CODE)
    name, shape, dtype = entry["name"], entry.get("shape"), entry.get("dtype")
    if len(name) > limits.name_bytes:
        refuse("unsafe_name", f"A weight's name has {len(name)} characters.", hint="Rename the layer.")
    whole = isinstance(shape, list) and all(type(dim) is int and dim >= 0 for dim in shape)
    if not whole or dtype not in (*ITEM_BYTES, "string"):
        corrupt(
            f"Weight {shown(name)!r} has no shape, or a dtype {shown(dtype)!r} that is none.",
            name=name,
            code=CODE,
        )
    assert isinstance(shape, list)
    elements = math.prod(shape)
    if len(shape) > limits.tensor_rank or elements > limits.tensor_elements:
        refuse(
            "unsafe_dimensions", f"Weight {shown(name)!r} declares {elements} elements.", name=name,
            limit=limits.tensor_elements, hint="Export the model again.",
        )  # fmt: skip
    quantization = entry.get("quantization")
    if quantization is not None:
        _check_quantization(name, dtype, quantization)
    if dtype == "string":
        return WeightEntry(name, tuple(shape), dtype, None, offset, None)
    item = ITEM_BYTES[quantization["dtype"] if quantization else dtype]
    return WeightEntry(name, tuple(shape), dtype, quantization, offset, elements * item)


def _check_quantization(name: str, dtype: str, held: Any) -> None:
    fine = isinstance(held, dict) and held.get("dtype") in STORED and dtype in ("float32", "int32")
    affine = fine and held["dtype"] != "float16"
    numbers = all(
        isinstance(held.get(key), int | float) and math.isfinite(held[key]) for key in ("scale", "min")
    ) if affine else fine  # fmt: skip
    if not fine or not numbers:
        corrupt(f"Weight {shown(name)!r} has a quantization that is not one.", name=name, code=CODE)
