"""What a kernel sees of a node: attributes with defaults, input arrays, opset, mode and a limit of size.

The same view is made of an `onnx_ir.Node` and of an `onnx.NodeProto`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from folding.ir.evaluate.dtypes import is_rational
from folding.ir.types import Array

MAX_ELEMENTS = 1 << 28


class Mode(StrEnum):
    """How floats are treated.

    EXACT: arrays keep their own type, whole numbers are computed as the runtime does, and object arrays of
        `fractions.Fraction` are computed without any rounding.
    FLOAT64: floats come in as float64 and every floating result is float64, that of a cast to float16 too.
    """

    EXACT = "exact"
    FLOAT64 = "float64"


class NotEvaluatedError(Exception):
    """This node has no value here; the text says why. Never a statement about the model."""


class TooLargeError(NotEvaluatedError):
    """The result would have more elements than the caller allows."""


@dataclass(frozen=True, eq=False)
class NodeView:
    """One node with the values of its inputs.

    inputs: arrays; an absent optional input is None.
    outputs: for each output of the node, whether anything can read it (its name is not empty).
    limit: the most elements that a result may have.
    """

    op_type: str
    domain: str
    inputs: tuple[Array | None, ...]
    outputs: tuple[bool, ...]
    opset: int
    mode: Mode
    limit: int
    attributes: Mapping[str, Any]
    read: Callable[[Any], Any]
    proto: Callable[[], onnx.NodeProto]

    @property
    def x(self) -> Array:
        """The first input. Raises NotEvaluatedError where it is absent."""
        return self.input(0)

    @property
    def float64(self) -> bool:
        """Whether floats are computed in float64."""
        return self.mode is Mode.FLOAT64

    def input(self, index: int) -> Array:
        """Return an input that must be there. Raises NotEvaluatedError."""
        value = self.optional(index)
        if value is None:
            raise NotEvaluatedError(f"{self.op_type}: input {index} is missing")
        return value

    def optional(self, index: int) -> Array | None:
        """Return an input that may be absent."""
        return self.inputs[index] if index < len(self.inputs) else None

    def wants(self, index: int) -> bool:
        """Return whether output `index` is asked for."""
        return index < len(self.outputs) and self.outputs[index]

    def has(self, name: str) -> bool:
        """Return whether the node states an attribute."""
        return name in self.attributes

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute's value: numbers, text, lists, and arrays for tensors."""
        attribute = self.attributes.get(name)
        return default if attribute is None else self.read(attribute)

    def flag(self, name: str, default: int = 0) -> bool:
        """Return an integer attribute as a truth value."""
        return bool(self.get(name, default))

    def number(self, name: str, default: float) -> Any:
        """Return a float attribute as it is stored (float32): a float, or a Fraction among rationals."""
        value = float(np.float32(self.get(name, default)))
        return Fraction(value) if any(i is not None and is_rational(i) for i in self.inputs) else value

    def ints(self, name: str, index: int | None = None) -> list[int] | None:
        """Return a list of integers that is an attribute, or input `index` in newer opsets; else None."""
        if name in self.attributes:
            return [int(item) for item in self.get(name)]
        value = None if index is None else self.optional(index)
        return None if value is None else [int(item) for item in value.reshape(-1)]

    def allow(self, shape: Iterable[int]) -> tuple[int, ...]:
        """Return a result's shape. Raises TooLargeError above the limit, NotEvaluatedError for no shape."""
        sizes = tuple(int(size) for size in shape)
        if any(size < 0 for size in sizes):
            raise NotEvaluatedError(f"{self.op_type}: {list(sizes)} is no shape")
        if math.prod(sizes) > self.limit:
            raise TooLargeError(f"{self.op_type}: {list(sizes)} has more than {self.limit} elements")
        return sizes


def view_of(
    node: ir.Node | onnx.NodeProto,
    inputs: Sequence[Array | None],
    *,
    opset: int,
    mode: Mode = Mode.EXACT,
    limit: int = MAX_ELEMENTS,
) -> NodeView:
    """Return the view of a node of either representation."""
    wanted, attributes, read, proto = _from_ir(node) if isinstance(node, ir.Node) else _from_proto(node)
    return NodeView(
        node.op_type, node.domain, tuple(inputs), wanted, opset, mode, limit, attributes, read, proto
    )


_Parts: TypeAlias = tuple[
    tuple[bool, ...], Mapping[str, Any], Callable[[Any], Any], Callable[[], onnx.NodeProto]
]


def _from_ir(node: ir.Node) -> _Parts:
    attributes = {name: found for name, found in node.attributes.items() if not found.is_ref()}
    wanted = tuple(value.name != "" for value in node.outputs)
    return wanted, attributes, _ir_value, lambda: ir.serde.serialize_node(node)


def _from_proto(node: onnx.NodeProto) -> _Parts:
    attributes = {found.name: found for found in node.attribute if not found.ref_attr_name}
    return tuple(name != "" for name in node.output), attributes, _proto_value, lambda: node


def _ir_value(attribute: ir.Attr) -> Any:
    value = attribute.value
    if attribute.type == ir.AttributeType.TENSOR:
        return np.asarray(value.numpy())
    return list(value) if isinstance(value, tuple) else value


def _proto_value(attribute: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        if value.data_location == onnx.TensorProto.EXTERNAL:
            raise NotEvaluatedError(f"attribute {attribute.name!r} lies in another file")
        return np.asarray(numpy_helper.to_array(value))
    if attribute.type == onnx.AttributeProto.STRINGS:
        return [item.decode("utf-8", "replace") for item in value]
    return value
