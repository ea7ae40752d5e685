"""What every TensorFlow format hands to the surgery: a graph, its ports, and where its weights lie."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from folding.report import Assumption, TensorInfo
from folding.sources.tensorflow.graph.tf_graph import TfGraph


@dataclass(frozen=True)
class Port:
    """A graph input or output. tensor: TensorFlow's name (`x:0`); name: what the ONNX graph calls it."""

    tensor: str
    name: str
    shape: tuple[int | str | None, ...] | None = None


class Weights(Protocol):
    """Named arrays that are read one at a time, on demand."""

    def names(self) -> Iterable[str]:
        """All names."""
        ...

    def has(self, name: str) -> bool:
        """Whether the name is held."""
        ...

    def describe(self, name: str) -> tuple[int, tuple[int, ...]]:
        """dtype (DataType enum) and shape, without reading the value."""
        ...

    def read(self, name: str) -> np.ndarray:
        """The value. Raises CorruptModel where the bytes are damaged."""
        ...


@dataclass
class Slot:
    """Where a variable's value lies: a key of the weights, perhaps a slice of it."""

    key: str
    slice_spec: str = ""


@dataclass
class Program:
    """A TensorFlow program as its files tell it; nothing was imported or run yet.

    slots: by variable node, where the saver keeps it; variables that are absent use their own name.
    collections: of the MetaGraph, by name, as lists of strings (node lists only).
    """

    graph: TfGraph
    weights: Weights
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    slots: dict[str, Slot] = field(default_factory=dict)
    collections: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    tables: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    framework: str = "tensorflow"
    purpose: str = "serving"  # what the gate tolerates in functions: `frozen`, `serving` or `training`
    full: TfGraph | None = None  # the graph before surgery, for evidence about training
    inference_only: bool = False  # its framework runs no layer in training mode here, whatever was written
    display: dict[str, str] = field(default_factory=dict)  # variable node -> name that its author knows
    momenta: dict[str, float] = field(default_factory=dict)  # moving mean -> momentum, where layers tell
    labels: list[str] = field(default_factory=list)  # inputs that only training reads
    assumptions: list[Assumption] = field(default_factory=list)
    signatures: dict[str, dict[str, list[TensorInfo]]] = field(default_factory=dict)
    signatures_ports: dict[str, tuple[list[Port], list[Port]]] = field(default_factory=dict)


class NoWeights:
    """The weights of a frozen graph: none besides its constants."""

    def names(self) -> Iterable[str]:
        """No names."""
        return ()

    def has(self, name: str) -> bool:
        """Never."""
        return False

    def describe(self, name: str) -> tuple[int, tuple[int, ...]]:
        """Never called."""
        raise KeyError(name)

    def read(self, name: str) -> np.ndarray:
        """Never called."""
        raise KeyError(name)
