"""What a TensorFlow Lite file holds, as plain records. The gate makes them; later steps only read them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Quantization:
    """real = scale * (stored - zero_point), along `axis` where there are several scales."""

    scale: np.ndarray
    zero_point: np.ndarray
    axis: int


@dataclass(frozen=True)
class TfliteTensor:
    """One tensor. type: TensorType; data: bytes of a constant, or None; shape as stored, -1 is unknown."""

    name: str
    type: int
    shape: tuple[int, ...]
    data: np.ndarray | None
    quantization: Quantization | None
    variable: bool

    @property
    def constant(self) -> bool:
        """Whether the file holds its value."""
        return self.data is not None


@dataclass(frozen=True)
class TfliteOperator:
    """One operator: its name, and indices of tensors (-1: an optional input that is left out)."""

    op: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    calls: tuple[int, ...] = ()


@dataclass(frozen=True)
class TfliteGraph:
    """One subgraph; operators stand in the order in which they run."""

    name: str
    tensors: tuple[TfliteTensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[TfliteOperator, ...]


@dataclass(frozen=True)
class TfliteModel:
    """The subgraphs, the main one first; signatures: key -> (inputs, outputs) as name -> tensor index."""

    version: int
    description: str
    graphs: tuple[TfliteGraph, ...]
    signatures: dict[str, tuple[dict[str, int], dict[str, int]]] = field(default_factory=dict)
