"""Which values are never negative, by construction."""

from __future__ import annotations

import onnx_ir as ir

from folding.ir.query import is_op, scalar, tensor

_ALWAYS = ("Relu", "Sigmoid", "HardSigmoid", "Softplus", "Abs", "Exp", "Softmax", "Sqrt")
_INHERIT = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity", "Dropout",
            "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Concat", "Add",
            "Mul", "Sum", "Max", "ReduceMean", "ReduceMax", "DepthToSpace", "SpaceToDepth",
            "Cast")  # fmt: skip
_DEPTH = 12


def never_negative(value: ir.Value | None, depth: int = _DEPTH) -> bool:
    """Whether every element is >= 0 whatever the inputs (NaN aside). False when it cannot be told."""
    if value is None or depth == 0:
        return False
    found = tensor(value)
    if found is not None:
        return found.dtype.is_floating_point() and found.size < 65536 and bool((found.numpy() >= 0).all())
    node = value.producer()
    if node is None:
        return False
    if is_op(node, *_ALWAYS):
        return True
    if is_op(node, "Clip"):
        low = scalar(node.inputs[1]) if len(node.inputs) > 1 else None
        if "min" in node.attributes:
            low = node.attributes["min"].as_float()
        return low is not None and low >= 0
    if is_op(node, *_INHERIT):
        data = node.inputs if is_op(node, "Concat", "Add", "Mul", "Sum", "Max") else node.inputs[:1]
        return all(never_negative(source, depth - 1) for source in data)
    return False
