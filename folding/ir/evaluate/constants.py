"""Arrays out of nothing, and conversions: Constant, ConstantOfShape, Range, Cast, CastLike, OneHot."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from folding.ir.evaluate.arithmetic import Kernel
from folding.ir.evaluate.dtypes import (
    WIDENED,
    is_float,
    is_integer,
    is_rational,
    is_standard_float,
    is_text,
    widen,
)
from folding.ir.evaluate.view import NodeView, NotEvaluatedError
from folding.ir.types import Array

_FORMS = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}
_NARROW = frozenset({"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"})


def constant(view: NodeView) -> Array:
    """Tensor, number and list forms; text and sparse tensors are not evaluated."""
    value = view.get("value")
    if isinstance(value, np.ndarray):
        return widen(value) if view.float64 else value
    for name, dtype in _FORMS.items():
        if view.has(name):
            array = np.asarray(view.get(name), dtype)
            return widen(array) if view.float64 else array
    raise NotEvaluatedError("a Constant of text, or sparse")


def constant_of_shape(view: NodeView) -> Array:
    """One number in every place; the result is a view."""
    value = view.get("value")
    fill = np.zeros(1, np.float32) if value is None else value
    fill = widen(fill) if view.float64 else fill
    return np.broadcast_to(fill.reshape(()), view.allow(view.x.reshape(-1)))


def ranged(view: NodeView) -> Array:
    """start, start + delta, ... below limit."""
    start, limit, delta = (view.input(index).reshape(-1)[0] for index in range(3))
    if delta == 0 or not all(map(np.isfinite, (start, limit, delta))):
        raise NotEvaluatedError("Range with a step of 0")
    whole = is_integer(view.x.dtype)
    exact = [int(n) if whole else float(n) for n in (start, limit, delta)]
    count = max(
        0, -((exact[0] - exact[1]) // exact[2]) if whole else math.ceil((exact[1] - exact[0]) / exact[2])
    )
    view.allow([int(count)])
    return np.asarray(start + np.arange(int(count)).astype(view.x.dtype) * delta).astype(view.x.dtype)


def cast(view: NodeView) -> Array:
    """Cast to one of the standard types. In float64 mode casts to floats of 16 to 64 bits round nothing."""
    to = int(view.get("to", TensorProto.UNDEFINED))
    if view.float64 and to in WIDENED:
        return convert(view.x, np.dtype(np.float64))
    if to in (TensorProto.UNDEFINED, TensorProto.STRING):
        raise NotEvaluatedError("a cast to text")
    return convert(view.x, helper.tensor_dtype_to_np_dtype(to))


def convert(x: Array, dtype: np.dtype[Any]) -> Array:
    """Return x in another type, as C does where C is defined.

    Raises NotEvaluatedError for text, for floats that the integer type does not hold, and for types below
    8 bits and 8-bit floats: runtimes disagree there.
    """
    if is_text(x) or dtype.kind == "O":
        raise NotEvaluatedError("a cast of text")
    if is_rational(x):
        if is_standard_float(dtype):
            return x
        raise NotEvaluatedError("a cast of a rational to whole numbers")
    if not (is_standard_float(dtype) or dtype.name in _NARROW):
        raise NotEvaluatedError(f"a cast to {dtype}")
    if dtype.kind in "iu" and is_float(x.dtype):
        wide = np.trunc(x.astype(np.float64))
        if not np.all((wide >= float(np.iinfo(dtype).min)) & (wide < float(np.iinfo(dtype).max) + 1.0)):
            raise NotEvaluatedError(f"a float that {dtype} does not hold")
        return wide.astype(dtype)
    return x.astype(dtype)


def cast_like(view: NodeView) -> Array:
    """Cast to the type of the second input."""
    return convert(view.x, view.input(1).dtype)


def one_hot(view: NodeView) -> Array:
    """values[1] where the index is, values[0] elsewhere, on a new axis of length depth."""
    indices, depth, values = view.x, view.input(1).reshape(-1), view.input(2).reshape(-1)
    axis, rank = int(view.get("axis", -1)), indices.ndim + 1
    if (
        not (depth.size == 1 and values.size == 2 and -rank <= axis < rank)
        or not (indices == indices // 1).all()
    ):
        raise NotEvaluatedError("OneHot of other than whole numbers")
    axis, count = axis % rank, int(depth[0])
    view.allow([*indices.shape[:axis], count, *indices.shape[axis:]])
    wide = indices.astype(np.int64)
    place = np.expand_dims(np.where(wide < 0, wide + count, wide), axis)
    steps = np.arange(count).reshape([-1 if i == axis else 1 for i in range(rank)])
    return np.asarray(np.where(place == steps, values[1], values[0])).astype(values.dtype)


KERNELS: dict[str, Kernel] = {
    "Cast": cast,
    "CastLike": cast_like,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "OneHot": one_hot,
    "Range": ranged,
}
