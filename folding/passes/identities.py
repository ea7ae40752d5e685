"""Nodes that give back what they are given.

Given:  y = Identity(x), Dropout(x), Cast(x, its own type), Reshape(x, its own shape), Pad(x, 0), x * 1, ...
Result: readers of y read x
Given:  y = CastLike(x, z), z's type known
Result: y = Cast(x)
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding.ir.edit import insert, replace
from folding.ir.query import array, attribute, axes_of, ints, scalar, tensor, unused
from folding.ir.shapes import inferred_dims, inferred_rank, same_shape
from folding.passes.base import Peephole


def _pass_through(node: ir.Node) -> bool:
    """Let readers of the first output read the first input."""
    source = node.inputs[0]
    return source is not None and replace(node.outputs[0], source)


def _identity(node: ir.Node) -> bool:
    return _pass_through(node)


def _dropout(node: ir.Node) -> bool:
    """Inference mode only: no training_mode input, or one that is false; and nobody reads the mask."""
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        mode = array(node.inputs[2])
        if mode is None or bool(mode.reshape(-1)[0]):
            return False
    if attribute(node, "is_test", 1) == 0 or not all(unused(mask) for mask in node.outputs[1:]):
        return False
    return _pass_through(node)


def _cast(node: ir.Node) -> bool:
    source = node.inputs[0]
    assert source is not None
    if source.dtype is None or source.dtype.value != attribute(node, "to"):
        return False
    return _pass_through(node)


def _cast_like(node: ir.Node) -> bool:
    """A type that is known does not have to be read from a value; a constant can then be cast once."""
    source, like, result = node.inputs[0], node.inputs[1], node.outputs[0]
    if source is None or like is None or like.dtype is None:
        return False
    if source.dtype == like.dtype:
        return _pass_through(node)
    kept = {name: attribute(node, name) for name in node.attributes}
    new = insert(node, "Cast", [source], {"to": like.dtype.value, **kept}, like=result, shape=result.shape,
                 name=f"{result.name}_cast")  # fmt: skip
    new.dtype = like.dtype
    return replace(result, new)


def _keeps_shape(node: ir.Node) -> bool:
    """Reshape, Expand, Flatten, Squeeze, Unsqueeze, Tile, Slice, Resize that keeps the shape."""
    return same_shape(node.inputs[0], node.outputs[0]) and _pass_through(node)


def _reshape(node: ir.Node) -> bool:
    """Same shape by name or number, or all dimensions but one equal numbers (then that one is equal too)."""
    source, result = node.inputs[0], node.outputs[0]
    if same_shape(source, result):
        return _pass_through(node)
    before, after = inferred_dims(source), inferred_dims(result)
    if before is None or after is None or len(before) != len(after) or 0 in before or 0 in after:
        return False
    open_axes = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a is None or a != b]
    if len(open_axes) != 1 or (before[open_axes[0]] is not None and after[open_axes[0]] is not None):
        return False
    return _pass_through(node)


def _transpose(node: ir.Node) -> bool:
    perm = attribute(node, "perm")
    return perm is not None and perm == sorted(perm) and _pass_through(node)


def _slice(node: ir.Node) -> bool:
    """Every axis whole: start 0, step 1, end at or past the dimension."""
    if len(node.inputs) < 3:
        return False
    starts, ends = ints(node.inputs[1]), ints(node.inputs[2])
    steps = ints(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] is not None else [1]
    axes = ints(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] is not None else None
    known = inferred_dims(node.inputs[0])
    if starts is None or ends is None or steps is None or any(starts) or any(s != 1 for s in steps):
        return False
    where = axes if axes is not None else list(range(len(starts)))
    if len(where) != len(ends) or not _inside(where, known):
        return False  # against the operator's definition
    for axis, end in zip(where, ends, strict=True):
        size = known[axis] if known is not None else None
        if end < 2**31 - 1 and (size is None or end < size):
            return False
    return _pass_through(node)


def _single(node: ir.Node) -> bool:
    """Concat, Sum, Min, Max, Mean over one input."""
    return len(node.inputs) == 1 and _pass_through(node)


def _pad(node: ir.Node) -> bool:
    pads = ints(node.inputs[1]) if len(node.inputs) > 1 else attribute(node, "pads")
    return pads is not None and not any(pads) and _pass_through(node)


def _pool(node: ir.Node) -> bool:
    """A window of one element."""
    kernel = attribute(node, "kernel_shape")
    strides, pads = attribute(node, "strides", []), attribute(node, "pads", [])
    if kernel is None or {*kernel, *strides} != {1} or any(pads) or len(node.outputs) > 1:
        return False
    return attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID") and _pass_through(node)


def _resize(node: ir.Node) -> bool:
    """Static sizes that do not change, in modes that then copy."""
    known = inferred_dims(node.inputs[0])
    if (
        known is None
        or None in known
        or attribute(node, "coordinate_transformation_mode") == "tf_crop_and_resize"
    ):
        return False
    return _keeps_shape(node)


def _reduce(node: ir.Node) -> bool:
    """A mean, maximum, ... over axes of length 1, kept."""
    axes, known = axes_of(node), inferred_dims(node.inputs[0])
    if not axes or known is None or not attribute(node, "keepdims", 1):
        return False
    return _inside(axes, known) and all(known[axis] == 1 for axis in axes) and _pass_through(node)


def _inside(axes: list[int], known: list[int | None] | None) -> bool:
    """Whether the axes exist, where the rank is known."""
    return known is None or all(-len(known) <= axis < len(known) for axis in axes)


def _neutral(position: int, neutral: float) -> Peephole:
    """x op c with every element of c neutral, and a result no larger than x."""

    def rule(node: ir.Node) -> bool:
        other, source = node.inputs[position], node.inputs[1 - position]
        found = tensor(other)
        if source is None or found is None or found.dtype == ir.DataType.STRING or found.size > 65536:
            return False
        if not same_shape(source, node.outputs[0]):
            wide = inferred_rank(source)
            if found.size != 1 or wide is None or len(found.shape) > wide:
                return False
        if not np.all(found.numpy() == neutral):
            return False
        return replace(node.outputs[0], source)

    return rule


def _power(node: ir.Node) -> bool:
    return scalar(node.inputs[1]) == 1.0 and _neutral(1, 1.0)(node)


RULES: tuple[tuple[str, Peephole], ...] = (
    ("Identity", _identity),
    ("Dropout", _dropout),
    ("Cast", _cast),
    ("CastLike", _cast_like),
    ("Reshape", _reshape),
    ("Expand", _keeps_shape),
    ("Flatten", _reshape),
    ("Squeeze", _keeps_shape),
    ("Unsqueeze", _keeps_shape),
    ("Tile", _keeps_shape),
    ("Transpose", _transpose),
    ("Slice", _slice),
    ("Concat", _single),
    ("Sum", _single),
    ("Min", _single),
    ("Max", _single),
    ("Mean", _single),
    ("Pad", _pad),
    ("MaxPool", _pool),
    ("AveragePool", _pool),
    ("Resize", _resize),
    ("ReduceMean", _reduce),
    ("ReduceMax", _reduce),
    ("ReduceMin", _reduce),
    ("ReduceSum", _reduce),
    ("Mul", _neutral(0, 1.0)),
    ("Mul", _neutral(1, 1.0)),
    ("Div", _neutral(1, 1.0)),
    ("Add", _neutral(0, 0.0)),
    ("Add", _neutral(1, 0.0)),
    ("Sub", _neutral(1, 0.0)),
    ("Pow", _power),
)
