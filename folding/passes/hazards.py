"""Graphs that known faulty fusions of runtimes cannot match, computing the same.

PadFusion (ONNX Runtime, basic level): Pad(0) before MaxPool goes into MaxPool, which pads with -inf.
"""

from __future__ import annotations

import onnx_ir as ir

from folding.passes.tools import all_graphs, attribute, is_op


def avoid(model: ir.Model) -> bool:
    """Apply every avoidance to every graph."""
    changed = False
    for graph in all_graphs(model):
        for node in graph:
            if is_op(node, "MaxPool"):
                changed |= _keep_zeros_out(node)
    return changed


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
