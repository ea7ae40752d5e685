"""Sizes of what nodes compute from constants: the runtimes fold such nodes while they load a model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from folding.sources.gates.onnx.external_data import EXTERNAL

# Operators whose result may be far larger than the constants that decide its size.
MAKERS: Final = frozenset(
    ("ConstantOfShape", "Expand", "Tile", "Range", "OneHot", "Pad", "RandomNormal", "RandomUniform")
)


@dataclass
class Scope:
    """Constants visible in a graph body, and how often an enclosing constant loop runs it."""

    constants: dict[str, list[int]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    trips: int = 1
    depth: int = 0


def remember(name: str, tensor: Any, scope: Scope) -> None:
    """Note the size of a constant, and its values where they are few integers."""
    elements = math.prod(max(0, d) for d in tensor.dims)
    scope.sizes[name] = elements
    if elements <= 64 and tensor.data_location != EXTERNAL and tensor.data_type in (6, 7):
        width = np.int32 if tensor.data_type == 6 else np.int64
        if tensor.raw_data:
            values = np.frombuffer(tensor.raw_data, width)[:elements].tolist()
        else:
            values = list(tensor.int32_data if tensor.data_type == 6 else tensor.int64_data)
        scope.constants[name] = values


def elements_made(node: Any, scope: Scope) -> int | None:
    """Return how many elements a node makes out of constants; None where that is not known."""
    inputs = list(node.input)
    constant = [scope.constants.get(name) for name in inputs]
    sizes = [scope.sizes.get(name) for name in inputs]
    op = node.op_type
    if op == "ConstantOfShape" and constant and constant[0] is not None:
        return math.prod(max(0, d) for d in constant[0])
    if op == "Expand" and len(inputs) > 1 and constant[1] is not None:
        return max(sizes[0] or 1, math.prod(max(1, d) for d in constant[1]))
    if op == "Tile" and len(inputs) > 1 and constant[1] is not None and sizes[0] is not None:
        return sizes[0] * math.prod(max(0, t) for t in constant[1])
    if op == "Range" and len(inputs) == 3 and all(constant):
        start, stop, step = (values[0] for values in constant if values)
        return abs((stop - start) // step) if step else None
    if op == "OneHot" and len(inputs) > 1 and constant[1] and sizes[0] is not None:
        return sizes[0] * max(0, constant[1][0])
    if op == "Pad" and len(inputs) > 1 and constant[1]:
        return max(0, *constant[1])
    if op in ("RandomNormal", "RandomUniform"):
        shape = [list(a.ints) for a in node.attribute if a.name == "shape"]
        return math.prod(max(0, d) for d in shape[0]) if shape else None
    if op in ("Concat", "Add", "Mul", "Sub", "Identity", "Reshape") and inputs and None not in sizes:
        held = [size for size in sizes if size is not None]
        return sum(held) if op == "Concat" else max(held)
    return None
