"""Global pooling under its own name, which blocked layouts of runtimes know.

Given:  y = ReduceMean(x (N, C, *space), axes=space, keepdims=1)    Result: y = GlobalAveragePool(x)
Given:  y = ReduceMax(x, axes=space, keepdims=1)                    Result: y = GlobalMaxPool(x)
Given:  y = Squeeze | Flatten | Reshape (GlobalAveragePool(x)) to (N, C)
Result: y = ReduceMean(x, axes=space, keepdims=0)                   one node for two
"""

from __future__ import annotations

import onnx_ir as ir

from folding.passes.base import Peephole
from folding.passes.tools import attribute, axes_of, insert, rank, replace

_NAMES = {"ReduceMean": "GlobalAveragePool", "ReduceMax": "GlobalMaxPool"}


def _global(node: ir.Node) -> bool:
    count, axes = rank(node.inputs[0]), axes_of(node)
    result = node.outputs[0]
    if count is None or count < 3 or not axes or not attribute(node, "keepdims", 1):
        return False
    if sorted(axis % count for axis in axes) != list(range(2, count)):
        return False
    if result.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16):
        return False
    kind = _NAMES[node.op_type]
    new = insert(node, kind, node.inputs[:1], like=result, shape=result.shape, name=f"{result.name}_pooled")
    return replace(result, new)


RULES: tuple[tuple[str, Peephole], ...] = (
    ("ReduceMean", _global),
    ("ReduceMax", _global),
)
