"""What a kernel sees: attributes with defaults, and operands."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

Array = np.ndarray


class Node:
    """One node with its operands' values; absent optional operands are None."""

    def __init__(self, proto: onnx.NodeProto, operands: list[Array | None], opset: int) -> None:
        self.proto, self.operands, self.opset = proto, operands, opset
        self._attributes = {a.name: a for a in proto.attribute}

    @property
    def x(self) -> Array:
        """The first operand."""
        return self.operand(0)

    def operand(self, index: int) -> Array:
        """An operand that must be there. Raises: IndexError."""
        value = self.optional(index)
        if value is None:
            raise IndexError(f"operand {index} is missing")
        return value

    def optional(self, index: int) -> Array | None:
        """An operand that may be absent."""
        return self.operands[index] if index < len(self.operands) else None

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute's value, strings decoded."""
        if name not in self._attributes:
            return default
        value = helper.get_attribute_value(self._attributes[name])
        return value.decode() if isinstance(value, bytes) else value

    def ints(self, name: str, operand: int) -> list[int] | None:
        """A list that was an attribute in old opsets and is an operand in new ones."""
        if name in self._attributes:
            return [int(i) for i in self.get(name)]
        value = self.optional(operand)
        return None if value is None else [int(i) for i in np.atleast_1d(value)]
