"""Global pooling under its own name, which blocked layouts of runtimes know.

Given:  y = ReduceMean(x (N, C, *space), axes=space, keepdims=1)    Result: y = GlobalAveragePool(x)
Given:  y = ReduceMax(x, axes=space, keepdims=1)                    Result: y = GlobalMaxPool(x)
Given:  y = Reshape | Unsqueeze (ReduceMean(x, axes=space, keepdims=0)) to (N, C, 1, ...)
Result: y = GlobalAveragePool(x)
"""

from __future__ import annotations

import onnx_ir as ir

from folding.ir.edit import insert, replace
from folding.ir.query import attribute, axes_of, is_op, only_user
from folding.ir.shapes import inferred_dims, inferred_rank
from folding.passes.base import Peephole

_PLANAR = 4  # over one axis it may be half of a layer normalization, which runtimes fuse from ReduceMean
_NAMES = {"ReduceMean": "GlobalAveragePool", "ReduceMax": "GlobalMaxPool"}


def _global(node: ir.Node) -> bool:
    count, axes = inferred_rank(node.inputs[0]), axes_of(node)
    result = node.outputs[0]
    if count is None or count < _PLANAR or not axes or not attribute(node, "keepdims", 1):
        return False
    if sorted(axis % count for axis in axes) != list(range(2, count)):
        return False
    if result.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16):
        return False
    kind = _NAMES[node.op_type]
    new = insert(node, kind, node.inputs[:1], like=result, shape=result.shape, name=f"{result.name}_pooled")
    return replace(result, new)


def _kept_after_all(node: ir.Node) -> bool:
    """Reshape or Unsqueeze that gives a reduction over space its axes of length 1 back."""
    value = node.inputs[0]
    mean = value.producer() if value is not None else None
    if value is None or mean is None or not is_op(mean, *_NAMES) or attribute(mean, "keepdims", 1):
        return False
    count, axes = inferred_rank(mean.inputs[0]), axes_of(mean)
    result, before = node.outputs[0], inferred_dims(mean.inputs[0])
    after = inferred_dims(result)
    if (
        count is None
        or count < _PLANAR
        or not axes
        or before is None
        or after is None
        or only_user(value) is not node
    ):
        return False
    if sorted(axis % count for axis in axes) != list(range(2, count)) or after[1:] != [
        before[1],
        *[1] * (count - 2),
    ]:
        return False
    if before[1] is None or result.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16):
        return False
    kind = _NAMES[mean.op_type]
    new = insert(node, kind, mean.inputs[:1], like=result, shape=result.shape, name=f"{result.name}_pooled")
    return replace(result, new)


RULES: tuple[tuple[str, Peephole], ...] = (
    ("ReduceMean", _global),
    ("ReduceMax", _global),
    ("Reshape", _kept_after_all),
    ("Unsqueeze", _kept_after_all),
)
