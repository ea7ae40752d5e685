"""Graphs that known faulty fusions of runtimes cannot match, computing the same.

PadFusion (ONNX Runtime, basic level): Pad(0) before MaxPool goes into MaxPool, which pads with -inf.
MatMul_BatchNormalization_Fusion (basic level): a BatchNormalization goes into the MatMul in front of it, past
Transpose and Reshape, as if the channels were still the columns. Mul and Add are not matched.
"""

from __future__ import annotations

import onnx_ir as ir

from folding.passes.dead_code import remove_dead_code
from folding.passes.normalizations import as_arithmetic
from folding.passes.tools import all_graphs, attribute, is_op

_MOVERS = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")


def avoid(model: ir.Model) -> bool:
    """Apply every avoidance to every graph."""
    changed = False
    for graph in all_graphs(model):
        for node in graph:
            if is_op(node, "MaxPool"):
                changed |= _keep_zeros_out(node)
    separated = [
        as_arithmetic(node)
        for graph in all_graphs(model)
        for node in tuple(graph)
        if is_op(node, "BatchNormalization") and _axis_moved_behind_matmul(node)
    ]
    if any(separated):
        remove_dead_code(model)
    return changed or any(separated)


def _axis_moved_behind_matmul(node: ir.Node) -> bool:
    """MatMul -> (Transpose | Reshape | ...)+ -> the norm."""
    value, moved = node.inputs[0], False
    while value is not None and is_op(value.producer(), *_MOVERS):
        producer = value.producer()
        assert producer is not None
        value, moved = producer.inputs[0], True
    return moved and value is not None and is_op(value.producer(), "MatMul")


def _keep_zeros_out(node: ir.Node) -> bool:
    """MaxPool after Pad says auto_pad=VALID, which means the same as no pads and is not fused."""
    value = node.inputs[0]
    pad = value.producer() if value is not None else None
    if pad is None or not is_op(pad, "Pad") or any(attribute(node, "pads", [0])):
        return False
    if attribute(node, "auto_pad", "NOTSET") != "NOTSET":
        return False
    node.attributes.pop("pads", None)
    node.attributes["auto_pad"] = ir.AttrString("auto_pad", "VALID")
    return True
