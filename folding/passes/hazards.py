"""Graphs that known faulty fusions of runtimes cannot match, computing the same. docs/reference/hazards.md
lists the fusions; `folding.verify` tells when one of them changed an artifact all the same.

pad_fusion_max_pool (ONNX Runtime, basic level): Pad(0) before MaxPool goes into MaxPool, which pads with
-inf; and a Pad as wide as the window goes into any pooling, which then cannot be loaded.
Given:  y = MaxPool(Pad(x, 0))                    Result: the same with auto_pad=VALID, which is not fused
Given:  y = MaxPool<pads>(Pad(x, 0))              Result: the same, the Pad with its axes named: not fused
matmul_bn_fusion_moved_axis (ONNX Runtime, basic level): BatchNormalization behind MatMul and a Transpose or
Reshape is folded into the MatMul as if the axes had not moved.
Given:  y = BatchNormalization(Reshape | Transpose (MatMul(x, w)))     Result: y = ... * scale + shift
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding.ir.edit import initializer
from folding.ir.query import all_graphs, attribute, graph_of, is_op, opset
from folding.ir.shapes import inferred_rank
from folding.passes.normalizations import as_arithmetic

_PAD_HAS_AXES = 18


def avoid(model: ir.Model) -> bool:
    """Apply every avoidance to every graph."""
    changed = False
    for graph in all_graphs(model):
        for node in graph:
            if is_op(node, "MaxPool", "AveragePool"):
                changed |= _keep_padding_out(node)
            elif is_op(node, "BatchNormalization") and _behind_moved_product(node):
                changed |= as_arithmetic(node)
    return changed


def _keep_padding_out(node: ir.Node) -> bool:
    """Pooling after a Pad that stayed says auto_pad=VALID, the same as no pads, and is not fused; where it
    has pads of its own, the Pad says which axes it means."""
    value = node.inputs[0]
    pad = value.producer() if value is not None else None
    if pad is None or not is_op(pad, "Pad") or attribute(node, "auto_pad", "NOTSET") != "NOTSET":
        return False
    if any(attribute(node, "pads", [0])):
        return _name_axes(pad)
    node.attributes.pop("pads", None)
    node.attributes["auto_pad"] = ir.AttrString("auto_pad", "VALID")
    return True


def _name_axes(pad: ir.Node) -> bool:
    """All axes, in order, as the optional input of opset 18: the same meaning, and fusions look away."""
    count = inferred_rank(pad.inputs[0]) or inferred_rank(pad.outputs[0])
    named = len(pad.inputs) > 3 and pad.inputs[3] is not None
    if count is None or named or opset(pad) < _PAD_HAS_AXES:
        return False
    axes = initializer(graph_of(pad), f"{pad.outputs[0].name}_axes", np.arange(count, dtype=np.int64))
    pad.resize_inputs(4)
    pad.replace_input_with(3, axes)
    return True


def _behind_moved_product(node: ir.Node) -> bool:
    """Whether only Reshape and Transpose lie between a MatMul and this norm."""
    value, moved = node.inputs[0], False
    while value is not None and (producer := value.producer()) is not None:
        if is_op(producer, "MatMul"):
            return moved
        if not is_op(producer, "Reshape", "Transpose"):
            return False
        value, moved = producer.inputs[0], True
    return False
