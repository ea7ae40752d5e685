"""Constant evaluation of the operators that shape computations and weight preparations are made of.

One function per operator: `(node, inputs) -> outputs`, pure numpy. Floating arithmetic follows its inputs'
type; `constants` hands in float64 where it means to round once, at the end of a chain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from folding.ir.edit import Array, attribute, axes_of
from folding.norms.operators import OPERATORS

Inputs = Sequence[Array | None]
Evaluator = Callable[[ir.Node, Inputs], Sequence[Array]]

# Moves elements without changing them (Cast: without changing what they mean).
MOVEMENT = frozenset({"Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast",
                      "CastLike", "Expand", "ConstantOfShape", "Slice", "Split", "Concat", "Gather",
                      "Tile", "Pad"})  # fmt: skip
# Elementwise over floats, where float64 inside and one cast out beats a rounding per node.
ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div", "Neg", "Sqrt", "Reciprocal", "Pow", "Abs", "Exp", "Log",
                        "Sum", "Min", "Max", "Mean", "MatMul", "Clip", "Relu", "Sigmoid", "Tanh", "Softplus",
                        "ReduceSumSquare", "ReduceL1", "ReduceL2"})  # fmt: skip


def _axes(node: ir.Node, inputs: Inputs) -> list[int] | None:
    if len(inputs) > 1 and inputs[1] is not None:
        return [int(axis) for axis in np.asarray(inputs[1]).reshape(-1)]
    return axes_of(node)


def _first(inputs: Inputs) -> Array:
    assert inputs[0] is not None
    return inputs[0]


def _shape(node: ir.Node, inputs: Inputs) -> Sequence[Array]:
    shape = np.array(_first(inputs).shape, np.int64)
    return [shape[slice(attribute(node, "start", 0), attribute(node, "end"))]]


def _cast(node: ir.Node, inputs: Inputs) -> Sequence[Array]:
    kind = ir.DataType(attribute(node, "to"))
    if kind == ir.DataType.STRING or _first(inputs).dtype.kind in "OSU":
        raise NotImplementedError("text")
    return [_convert(_first(inputs), kind.numpy())]


def _convert(data: Array, dtype: np.dtype[Any]) -> Array:
    """C-like for what is in range; refuses what runtimes disagree about."""
    if dtype.kind in "iu" and data.dtype.kind == "f":
        info = np.iinfo(dtype)
        if not np.all(np.isfinite(data)) or np.any(data < info.min) or np.any(data > info.max):
            raise NotImplementedError("a float that the integer type does not hold")
    return data.astype(dtype)


def _reshape(node: ir.Node, inputs: Inputs) -> Sequence[Array]:
    data = _first(inputs)
    wanted = attribute(node, "shape") if len(inputs) < 2 else np.asarray(inputs[1]).tolist()
    if not attribute(node, "allowzero", 0):
        wanted = [data.shape[i] if dim == 0 else dim for i, dim in enumerate(wanted)]
    return [data.reshape([int(dim) for dim in wanted])]


def _squeeze(node: ir.Node, inputs: Inputs) -> Sequence[Array]:
    axes = _axes(node, inputs)
    return [np.squeeze(_first(inputs), None if axes is None else tuple(axes))]


def _unsqueeze(node: ir.Node, inputs: Inputs) -> Sequence[Array]:
    axes = _axes(node, inputs)
    assert axes is not None
    return [np.expand_dims(_first(inputs), tuple(axes))]


def _slice(node: ir.Node, inputs: Inputs) -> Sequence[Array]:
    data = _first(inputs)
    if len(inputs) > 1:
        starts, ends, axes, steps = ([*inputs[1:], None, None])[:4]
    else:
        starts, ends, axes, steps = (
            attribute(node, "starts"),
            attribute(node, "ends"),
            attribute(node, "axes"),
            None,
        )
    count = len(np.asarray(starts))
    where = list(range(count)) if axes is None else np.asarray(axes).tolist()
    by = [1] * count if steps is None else np.asarray(steps).tolist()
    index: list[slice] = [slice(None)] * data.ndim
    for start, end, axis, step in zip(
        np.asarray(starts).tolist(), np.asarray(ends).tolist(), where, by, strict=True
    ):
        stop = None if step < 0 and end < -data.shape[axis] else end
        index[axis] = slice(start, stop, step)
    return [data[tuple(index)]]


def _split(node: ir.Node, inputs: Inputs) -> Sequence[Array]:
    data, axis = _first(inputs), attribute(node, "axis", 0)
    sizes = (
        attribute(node, "split") if len(inputs) < 2 or inputs[1] is None else np.asarray(inputs[1]).tolist()
    )
    if sizes is None:
        chunk = math.ceil(data.shape[axis] / len(node.outputs))
        sizes = [chunk] * (len(node.outputs) - 1)
        sizes.append(data.shape[axis] - sum(sizes))
    return np.split(data, np.cumsum(sizes)[:-1], axis)


def _constant_of_shape(node: ir.Node, inputs: Inputs) -> Sequence[Array]:
    value = attribute(node, "value")
    fill = np.zeros(1, np.float32) if value is None else value.numpy()
    return [np.full([int(dim) for dim in _first(inputs)], fill.reshape(-1)[0], fill.dtype)]


def _expand(node: ir.Node, inputs: Inputs) -> Sequence[Array]:
    data, shape = _first(inputs), [int(dim) for dim in np.asarray(inputs[1])]
    return [np.broadcast_to(data, np.broadcast_shapes(data.shape, tuple(shape)))]


def _range(node: ir.Node, inputs: Inputs) -> Sequence[Array]:
    start, limit, delta = (np.asarray(value).reshape(()) for value in inputs)
    return [np.arange(start, limit, delta, dtype=start.dtype)]  # type: ignore[call-overload]


def _divide(node: ir.Node, inputs: Inputs) -> Sequence[Array]:
    a, b = np.asarray(inputs[0]), np.asarray(inputs[1])
    if a.dtype.kind in "iu":  # towards zero, as C does
        quotient = np.abs(a) // np.abs(b)
        return [np.where((a < 0) != (b < 0), -quotient, quotient).astype(a.dtype)]
    return [a / b]


def _gather(node: ir.Node, inputs: Inputs) -> Sequence[Array]:
    return [np.take(_first(inputs), np.asarray(inputs[1]), attribute(node, "axis", 0))]


def _reduce(function: Callable[..., Any]) -> Evaluator:
    def run(node: ir.Node, inputs: Inputs) -> Sequence[Array]:
        axes = _axes(node, inputs)
        if not axes and attribute(node, "noop_with_empty_axes", 0):
            return [_first(inputs)]
        keep = bool(attribute(node, "keepdims", 1))
        return [np.asarray(function(_first(inputs), axis=tuple(axes) if axes else None, keepdims=keep))]

    return run


def _elementwise(function: Callable[..., Any]) -> Evaluator:
    return lambda node, inputs: [np.asarray(function(*inputs))]


def _fold_left(function: Callable[..., Any]) -> Evaluator:
    def run(node: ir.Node, inputs: Inputs) -> Sequence[Array]:
        total = _first(inputs)
        for other in inputs[1:]:
            total = function(total, other)
        return [np.asarray(total)]

    return run


def _flatten(node: ir.Node, inputs: Inputs) -> Sequence[Array]:
    data, axis = _first(inputs), attribute(node, "axis", 1)
    return [data.reshape(math.prod(data.shape[:axis]) if axis else 1, -1)]


def _as_in_norms(name: str) -> Evaluator:
    """The operators that constant expressions of norms and weights know as well."""
    return lambda node, inputs: [OPERATORS[name](node, *inputs)]


def _pow(node: ir.Node, inputs: Inputs) -> Sequence[Array]:
    return [np.power(_first(inputs), np.asarray(inputs[1])).astype(_first(inputs).dtype)]


EVALUATORS: dict[str, Evaluator] = {
    "Identity": lambda node, inputs: [_first(inputs)],
    "Shape": _shape,
    "Size": lambda node, inputs: [np.array(_first(inputs).size, np.int64)],
    "Cast": _cast,
    "CastLike": lambda node, inputs: [_convert(_first(inputs), np.asarray(inputs[1]).dtype)],
    "Reshape": _reshape,
    "Transpose": lambda node, inputs: [np.transpose(_first(inputs), attribute(node, "perm"))],
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Flatten": _flatten,
    "Slice": _slice,
    "Split": _split,
    "Concat": lambda node, inputs: [np.concatenate([np.asarray(i) for i in inputs], attribute(node, "axis"))],
    "Gather": _gather,
    "Tile": lambda node, inputs: [np.tile(_first(inputs), np.asarray(inputs[1]))],
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Range": _range,
    "Add": _elementwise(np.add),
    "Sub": _elementwise(np.subtract),
    "Mul": _elementwise(np.multiply),
    "Div": _divide,
    "Neg": _elementwise(np.negative),
    "Abs": _elementwise(np.abs),
    "Sqrt": _elementwise(np.sqrt),
    "Exp": _elementwise(np.exp),
    "Log": _elementwise(np.log),
    "Floor": _elementwise(np.floor),
    "Ceil": _elementwise(np.ceil),
    "Reciprocal": lambda node, inputs: [np.asarray(1 / _first(inputs), _first(inputs).dtype)],
    "Pow": _pow,
    "Equal": _elementwise(np.equal),
    "Less": _elementwise(np.less),
    "Greater": _elementwise(np.greater),
    "LessOrEqual": _elementwise(np.less_equal),
    "GreaterOrEqual": _elementwise(np.greater_equal),
    "And": _elementwise(np.logical_and),
    "Or": _elementwise(np.logical_or),
    "Not": _elementwise(np.logical_not),
    "Where": _elementwise(np.where),
    "Sum": _fold_left(np.add),
    "Min": _fold_left(np.minimum),
    "Max": _fold_left(np.maximum),
    "ReduceSum": _reduce(np.sum),
    "ReduceProd": _reduce(np.prod),
    "ReduceMin": _reduce(np.min),
    "ReduceMax": _reduce(np.max),
    "ReduceMean": _reduce(np.mean),
    **{name: _as_in_norms(name) for name in ("MatMul", "Clip", "Relu", "Sigmoid", "Tanh", "Softplus", "Pad",
                                             "ReduceSumSquare", "ReduceL1", "ReduceL2")},
}  # fmt: skip
