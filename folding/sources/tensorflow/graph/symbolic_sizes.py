"""Integer tensors of sizes as linear expressions of what is only known at run time.

Given:  paddings = Pack([1, 1 + FloorMod(4 - H, 4)]);  crops = Pack([0, FloorMod(4 - H, 4)])
Result: paddings = [1, 1 + m], crops = [0, m], so that paddings - crops = [1, 1], whatever H is

Equal computations give equal atoms, whichever node they stand at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from folding.sources.tensorflow.graph.static_shapes import StaticShapes
from folding.sources.tensorflow.graph.tf_graph import (
    Node,
    TfGraph,
    canonical,
    const_value,
    data_inputs,
    dtype_of,
    split,
)

_LIMIT = 64  # elements; sizes come as many as a tensor has dimensions
_DEPTH = 64
_INTEGERS = frozenset({3, 9})  # int32, int64
_PASS = frozenset({"Identity", "StopGradient", "Cast", "EnsureShape"})
# Operators whose first result has the shape of their first input.
_SHAPE_KEPT = frozenset(
    {"Identity", "StopGradient", "Cast", "Relu", "Relu6", "Elu", "Selu", "LeakyRelu", "Sigmoid", "Tanh",
     "Softplus", "BiasAdd", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "Neg", "Abs", "Square"}
)  # fmt: skip
_ATOMIC: dict[str, Callable[[int, int], int]] = {
    "FloorMod": lambda a, b: a % b, "FloorDiv": lambda a, b: a // b, "Maximum": max, "Minimum": min,
    "Mul": lambda a, b: a * b,
}  # fmt: skip


@dataclass(frozen=True)
class Linear:
    """`constant + sum(factor * atom)`; `terms` is sorted and has no zero."""

    constant: int
    terms: tuple[tuple[str, int], ...] = ()

    def plus(self, other: Linear, sign: int = 1) -> Linear:
        """Sum, or difference for `sign` -1."""
        held = dict(self.terms)
        for atom, factor in other.terms:
            held[atom] = held.get(atom, 0) + sign * factor
        terms = tuple(sorted((atom, factor) for atom, factor in held.items() if factor))
        return Linear(self.constant + sign * other.constant, terms)

    def times(self, factor: int) -> Linear:
        """Product with a number."""
        terms = tuple((atom, held * factor) for atom, held in self.terms) if factor else ()
        return Linear(self.constant * factor, terms)

    @property
    def known(self) -> int | None:
        """The number, where it does not depend on anything."""
        return None if self.terms else self.constant


class SymbolicSizes:
    """Evaluates references to arrays of `Linear`."""

    def __init__(self, graph: TfGraph, shapes: StaticShapes) -> None:
        self._graph, self._shapes = graph, shapes
        self._held: dict[str, Any] = {}

    def of(self, ref: str, depth: int = 0) -> Any:
        """An object array of `Linear`; None where the value is no small tensor of integers."""
        key = canonical(ref)
        if key not in self._held:
            node = self._graph.nodes.get(split(ref)[0])
            found = None if node is None or depth > _DEPTH else self._evaluate(node, key, depth + 1)
            self._held[key] = self._atoms(key, node) if found is None else found
        return self._held[key]

    def _evaluate(self, node: Node, key: str, depth: int) -> Any:
        if split(key)[1] != 0:
            return None
        value = const_value(node)
        if value is not None:
            return _constant(value)
        inputs = data_inputs(node)
        if node.op in _PASS:
            return self.of(inputs[0], depth) if dtype_of(node) in _INTEGERS or node.op != "Cast" else None
        if node.op == "Shape":
            return self.dims(inputs[0])
        operands = [self.of(each, depth) for each in inputs]
        if any(operand is None for operand in operands):
            return None
        try:
            return _apply(node, operands)
        except (ValueError, IndexError, TypeError):
            return None  # a shape that does not fit is TensorFlow's to refuse

    def dims(self, ref: str) -> Any:
        """The sizes of a tensor's dimensions; None where its rank is unknown."""
        ref = self._same_shape(ref)
        dims = self._shapes.of(ref)
        if dims is None:
            return None
        made = [Linear(d) if d is not None else Linear(0, ((f"dim({canonical(ref)},{i})", 1),))
                for i, d in enumerate(dims)]  # fmt: skip
        return _array(made, (len(dims),))

    def _same_shape(self, ref: str) -> str:
        """The first tensor upstream of the same shape: one size has one name, whoever asks for it."""
        for _ in range(_DEPTH):
            node = self._graph.nodes.get(split(ref)[0])
            if node is None or node.op not in _SHAPE_KEPT or split(ref)[1] != 0:
                break
            ref = data_inputs(node)[0]
        return ref

    def _atoms(self, key: str, node: Node | None) -> Any:
        shape = self._shapes.of(key)
        if node is None or shape is None or any(d is None for d in shape):
            return None
        dims = tuple(int(d) for d in shape if d is not None)
        count = int(np.prod(dims, dtype=np.int64))
        if count > _LIMIT or dtype_of(node) not in _INTEGERS:
            return None
        return _array([Linear(0, ((f"{key}[{i}]", 1),)) for i in range(count)], dims)


def _array(values: list[Linear], shape: tuple[int, ...]) -> Any:
    result = np.empty(len(values), object)
    for index, value in enumerate(values):
        result[index] = value
    return result.reshape(shape)


def _constant(value: np.ndarray) -> Any:
    if value.dtype.kind not in "iu" or value.size > _LIMIT:
        return None
    return _array([Linear(int(number)) for number in value.reshape(-1)], value.shape)


def _numbers(operand: Any) -> list[int]:
    """The numbers of an operand that must be constant. Raises ValueError."""
    found = [each.known for each in operand.reshape(-1)]
    if any(number is None for number in found):
        raise ValueError("computed at run time")
    return [int(number) for number in found]


def _apply(node: Node, operands: list[Any]) -> Any:
    if node.op == "Pack":
        return np.stack(operands, axis=int(node.attr["axis"].i))
    if node.op == "ConcatV2":
        return np.concatenate(operands[:-1], axis=_numbers(operands[-1])[0])
    if node.op == "ExpandDims":
        return np.expand_dims(operands[0], _numbers(operands[1])[0])
    if node.op == "Squeeze":
        axes = tuple(node.attr["squeeze_dims"].list.i) or None
        return np.squeeze(operands[0], axes)
    if node.op == "Reshape":
        return operands[0].reshape(_numbers(operands[1]))
    if node.op == "Transpose":
        return np.transpose(operands[0], _numbers(operands[1]))
    if node.op == "StridedSlice":
        return _sliced(node, operands)
    if node.op == "Neg":
        return _each(lambda a: a.times(-1), operands[0])
    if node.op in ("Add", "AddV2", "Sub"):
        sign = -1 if node.op == "Sub" else 1
        return _each(lambda a, b: a.plus(b, sign), *operands)
    if node.op in _ATOMIC:
        return _each(lambda a, b: _atom(node.op, a, b), *operands)
    return None


def _each(function: Callable[..., Linear], *operands: Any) -> Any:
    spread = np.broadcast_arrays(*operands)
    rows = zip(*(each.reshape(-1) for each in spread), strict=True)
    return _array([function(*row) for row in rows], spread[0].shape)


def _atom(op: str, left: Linear, right: Linear) -> Linear:
    if left.known is not None and right.known is not None:
        if op in ("FloorMod", "FloorDiv") and right.known == 0:
            raise ValueError("division by zero")
        return Linear(_ATOMIC[op](left.known, right.known))
    if op == "Mul" and (left.known is not None or right.known is not None):
        return left.times(right.known) if right.known is not None else right.times(left.known or 0)
    return Linear(0, ((f"{op}({left},{right})", 1),))


def _sliced(node: Node, operands: list[Any]) -> Any:
    if node.attr["ellipsis_mask"].i or node.attr["new_axis_mask"].i:
        return None
    begin, end, step = (_numbers(operand) for operand in operands[1:4])
    index: list[Any] = []
    for axis, (first, last, stride) in enumerate(zip(begin, end, step, strict=True)):
        if node.attr["shrink_axis_mask"].i >> axis & 1:
            index.append(first)
            continue
        start = None if node.attr["begin_mask"].i >> axis & 1 else first
        stop = None if node.attr["end_mask"].i >> axis & 1 else last
        index.append(slice(start, stop, stride))
    found = operands[0][tuple(index)]
    return found if isinstance(found, np.ndarray) else _array([found], ())
