"""Constants that are added one after the other are added as one.

Given:  y = (x + c1) + c2        a bias and a map of positions
Result: y = x + (c1 + c2)        where that is small, or no larger than the larger of the two
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding.ir.edit import initializer, insert, replace
from folding.ir.query import graph_of, is_op, only_user, tensor
from folding.passes.base import Peephole

_SMALL = 1 << 12  # elements: an Add less is worth 16 kB


def _merge(node: ir.Node) -> bool:
    """The outer Add; legacy broadcasting by attribute is left alone."""
    for position in (0, 1):
        value, outer = node.inputs[position], tensor(node.inputs[1 - position])
        inner = value.producer() if value is not None else None
        if value is None or outer is None or inner is None or not is_op(inner, "Add"):
            continue
        if only_user(value) is not node or "broadcast" in node.attributes or "broadcast" in inner.attributes:
            continue
        for place in (0, 1):
            source, first = inner.inputs[1 - place], tensor(inner.inputs[place])
            if source is not None and first is not None and _fits(first, outer):
                return _add_once(node, source, first, outer)
    return False


def _fits(first: ir.TensorProtocol, second: ir.TensorProtocol) -> bool:
    """Floating constants of one type whose sum is hardly larger than they are."""
    if first.dtype != second.dtype or not first.dtype.is_floating_point():
        return False
    try:
        shape = np.broadcast_shapes(first.shape.numpy(), second.shape.numpy())
    except ValueError:
        return False
    return int(np.prod(shape)) <= max(first.size, second.size, _SMALL)


def _add_once(node: ir.Node, source: ir.Value, first: ir.TensorProtocol, second: ir.TensorProtocol) -> bool:
    """One Add of the sum, which is made in float64 and rounded once."""
    result = node.outputs[0]
    exact = first.numpy().astype(np.float64) + second.numpy().astype(np.float64)
    total = exact.astype(first.dtype.numpy())
    if not np.isfinite(total.astype(np.float64)).all():
        return False
    const = initializer(graph_of(node), f"{result.name}_sum", ir.Tensor(np.asarray(total), dtype=first.dtype))
    new = insert(node, "Add", [source, const], like=result, shape=result.shape, name=f"{result.name}_added")
    return replace(result, new)


RULES: tuple[tuple[str, Peephole], ...] = (("Add", _merge),)
