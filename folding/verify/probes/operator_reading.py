"""One node that reads a model input as an argument, and the values it accepts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

Shape = tuple[int, ...]


UNKNOWN = 0  # a dimension that shape inference did not settle


@dataclass(frozen=True)
class Proposal:
    """Either a range, both ends included, or the very values (in the input's shape once reshaped)."""

    low: float = 0
    high: float = 0
    fixed: np.ndarray | None = None
    why: str = ""


@dataclass(frozen=True)
class Reading:
    """One node that reads the input, by operand `position`; `own` is the input's own shape.

    shapes: by value name, as far as inference reaches. constants: small constants by value name.
    """

    node: onnx.NodeProto
    position: int
    own: Shape
    shapes: Mapping[str, Shape]
    constants: Callable[[str], np.ndarray | None]

    @property
    def count(self) -> int:
        """Number of elements of the input."""
        return math.prod(self.own)

    def shape(self, position: int = 0) -> Shape:
        """Shape of another operand; () where it is absent or unknown."""
        return self.shapes.get(self.node.input[position], ()) if position < len(self.node.input) else ()

    def output(self, position: int = 0) -> Shape:
        """Shape of an output; () where it is unknown."""
        return self.shapes.get(self.node.output[position], ()) if position < len(self.node.output) else ()

    def constant(self, position: int) -> np.ndarray | None:
        """Value of another operand where it is a constant."""
        present = position < len(self.node.input) and self.node.input[position]
        return self.constants(self.node.input[position]) if present else None

    def get(self, name: str, default: Any) -> Any:
        """An attribute's value, or the default."""
        for item in self.node.attribute:
            if item.name == name:
                return helper.get_attribute_value(item)
        return default

    def dim(self, axis: int, position: int = 0) -> int:
        """One dimension of an operand, at least 1."""
        shape = self.shape(position)
        return max(1, shape[axis]) if -len(shape) <= axis < len(shape) else 1


Proposals = Iterator[Proposal]


Rule = Callable[[Reading], Proposals]
