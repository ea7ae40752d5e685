"""Inputs that a model is tried on: seeded, signed, at several scales, and recorded.

Each probe has its own generator, seeded by (seed, name), so that adding one never changes another.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from folding.ir.types import Feeds
from folding.verify.probes.input_ranges import InputSpec

Dims = dict[str, int]
MOST_ROWS = "#rows"  # key of the largest batch; no symbol of a graph begins with it
SEQUENCE = 3  # tensors in a sequence

# name -> (batch, what a float element is). In order of worth: an expensive model gets the first few only.
FLOAT_KINDS: tuple[tuple[str, int, str], ...] = (
    ("normal", 1, "N(0, 1)"),
    ("mixed-batch", 3, "rows N(0.3, 0.5^2), U(0, 1) and 4 * U(-1, 1)"),
    ("zeros", 1, "all zero"),
    ("negative", 2, "-|N(0, 1)|"),
    ("small", 1, "0.01 * N(0, 1)"),
    ("bytes", 1, "whole numbers of U(0, 255)"),
    ("impulses", 1, "0, with 2 % of +-5"),
    ("large", 1, "30 * N(0, 1)"),
    ("extremes", 2, "+-100 in random signs, corners included"),
    ("offset", 1, "5 + N(0, 1)"),
)


@dataclass(frozen=True, eq=False)
class Probe:
    """One set of inputs, and how it was made."""

    name: str
    feeds: Feeds
    recipe: str
    seed: int | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    arguments: Feeds = field(default_factory=dict)  # those of the feeds that are no data: never moved

    @property
    def exact(self) -> bool:
        """Values that mean something as they are, so that their float neighbours are other inputs."""
        return self.name in ("bytes", "zeros", "impulses")

    @property
    def constant(self) -> bool:
        """All rows of the batch are alike."""
        return self.name == "zeros"

    def record(self) -> dict[str, Any]:
        """What the report keeps: enough to make the probe again and to tell that it is the same."""
        return {
            "name": self.name,
            "recipe": self.recipe,
            "seed": self.seed,
            "inputs": {n: {"shape": list(a.shape), "dtype": str(a.dtype)} for n, a in self.feeds.items()},
            "digest": "sha256:" + digest(self.feeds),
            **self.figures,
        }


def digest(feeds: Feeds) -> str:
    """Digest over names, dtypes, shapes and bytes."""
    state = hashlib.sha256()
    for name in sorted(feeds):
        array = feeds[name]
        state.update(f"{name}:{array.dtype}:{array.shape};".encode())
        state.update(repr(array.tolist()).encode() if array.dtype == object else array.tobytes())
    return state.hexdigest()


def generate(specs: Sequence[InputSpec], sizes: Dims, seed: int) -> Iterator[Probe]:
    """The probes for fixed sizes of the dynamic dimensions, best first; `sizes['']` is the batch."""
    several = any(batch_is_free(spec) for spec in specs)
    for name, batch, recipe in FLOAT_KINDS:
        rows = min(batch, sizes.get(MOST_ROWS, batch)) if several else 1
        yield make(specs, {**sizes, "": max(rows, sizes.get("", 1))}, seed, name, recipe)


def make(specs: Sequence[InputSpec], sizes: Dims, seed: int, name: str, recipe: str, kind: str = "") -> Probe:
    """One probe. `kind` is the distribution's name where it is not the probe's own."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    sizes = with_batch(specs, sizes)
    feeds = {spec.name: values_of(spec, shape_of(spec, sizes), kind or name, rng) for spec in specs}
    arguments = {spec.name: feeds[spec.name] for spec in specs if spec.readers}
    return Probe(name, feeds, recipe, seed, arguments=arguments)


def batch_symbols(specs: Sequence[InputSpec]) -> set[str]:
    """Symbols of first dimensions: wherever else they stand, they are the batch too."""
    return {str(spec.dims[0]) for spec in specs if spec.dims and isinstance(spec.dims[0], str)}


def with_batch(specs: Sequence[InputSpec], sizes: Dims) -> Dims:
    """The sizes, with the batch under every symbol that stands for it."""
    return {**sizes, **dict.fromkeys(batch_symbols(specs), sizes[""])}


def batch_is_free(spec: InputSpec) -> bool:
    """Whether the first dimension is dynamic."""
    return bool(spec.dims) and not isinstance(spec.dims[0], int)  # type: ignore[index]


def shape_of(spec: InputSpec, sizes: Dims) -> tuple[int, ...]:
    """Concrete shape; a missing rank counts as a scalar's unless `sizes` says more."""
    shape = []
    for axis, dim in enumerate(spec.dims or []):
        if isinstance(dim, int):
            shape.append(dim)
        elif axis == 0:
            shape.append(sizes.get(f"{spec.name}:0", sizes[""]))
        else:
            shape.append(sizes.get(f"{spec.name}:{axis}", sizes.get(dim or "", sizes["*"])))
    return tuple(shape)


def values_of(spec: InputSpec, shape: tuple[int, ...], kind: str, rng: np.random.Generator) -> np.ndarray:
    """Values of one input; a sequence is an array of arrays."""
    if not spec.sequence:
        return fill(spec, shape, kind, rng)
    made = np.empty(SEQUENCE, object)
    for i in range(SEQUENCE):
        made[i] = fill(spec, shape, kind, rng)
    return made


def fill(spec: InputSpec, shape: tuple[int, ...], kind: str, rng: np.random.Generator) -> np.ndarray:
    """Values of one input for one kind of probe."""
    if spec.fixed is not None and spec.fixed.size == math.prod(shape):
        return spec.fixed.reshape(shape).astype(spec.dtype)
    if spec.kind == "float" and spec.low is not None and spec.high is not None:
        return np.asarray(rng.uniform(spec.low, spec.high, shape)).astype(spec.dtype)
    if spec.kind == "float":
        return np.asarray(floats(shape, kind, rng)).astype(spec.dtype)
    if spec.kind == "bool":
        return np.full(shape, kind != "zeros") if not shape else rng.random(shape) < (kind != "zeros") * 0.5
    if spec.kind == "string":
        return np.asarray(rng.choice(np.array(spec.vocabulary, object), shape), object)
    return integers(spec, shape, kind, rng)


def floats(shape: tuple[int, ...], kind: str, rng: np.random.Generator) -> np.ndarray:
    """float32 values of one distribution (see FLOAT_KINDS)."""
    normal = rng.standard_normal(shape, np.float32)
    if kind == "zeros":
        return np.zeros(shape, np.float32)
    if kind == "mixed-batch":
        return mixed(normal, rng)
    if kind == "bytes":
        return rng.integers(0, 256, shape).astype(np.float32)
    if kind == "impulses":
        return np.where(rng.random(shape) < 0.02, np.copysign(np.float32(5), normal), np.float32(0))
    if kind == "extremes":
        return np.copysign(np.float32(100), normal)
    changes = {"small": (0.01, 0.0), "large": (30.0, 0.0), "offset": (1.0, 5.0)}
    scale, shift = changes.get(kind, (1.0, 0.0))
    return -np.abs(normal) if kind == "negative" else normal * np.float32(scale) + np.float32(shift)


def mixed(normal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A batch whose rows differ in distribution, so that a row that leaks into another shows."""
    if normal.ndim == 0:
        return normal * np.float32(4)
    rows = [normal * np.float32(0.5) + np.float32(0.3), rng.random(normal.shape, np.float32)]
    rows.append(np.float32(8) * rng.random(normal.shape, np.float32) - np.float32(4))
    return np.stack([rows[i % 3][i] for i in range(normal.shape[0])]) if normal.shape[0] else normal


def integers(spec: InputSpec, shape: tuple[int, ...], kind: str, rng: np.random.Generator) -> np.ndarray:
    """Whole numbers within the known range, its two ends included; 0..9 where nothing is known."""
    low, high = (int(spec.low or 0), int(spec.high)) if spec.high is not None else (0, 9)
    if kind == "zeros":
        return np.full(shape, max(low, 0), spec.dtype)
    values = rng.integers(low, high + 1, shape)
    if kind == "extremes":
        values = np.where(rng.random(shape) < 0.5, low, high)
    return np.asarray(values).astype(spec.dtype)
