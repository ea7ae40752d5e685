"""Carry out the patches of a plan, once every value on the affine's way has accepted it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding.rules.interface import Context
from folding.rules.patch import Patch, SetAttribute
from folding.rules.writing import emit_affine
from folding.rules.writing.bias import forget


def apply(patch: Patch, ctx: Context) -> None:
    """Change the node in place."""
    node = patch.node
    if isinstance(patch, SetAttribute):
        node.attributes.add(ir.AttrFloat32(patch.name, patch.value))
        return
    assert isinstance(node.graph, ir.Graph)
    name = f"{node.name or node.op_type.lower()}/{patch.name}"
    const = emit_affine.constant(ctx, node.graph, name, np.asarray(patch.content), patch.dtype)
    before = node.inputs[patch.index] if patch.index < len(node.inputs) else None
    if len(node.inputs) <= patch.index:
        node.resize_inputs(patch.index + 1)
    node.replace_input_with(patch.index, const)
    if before is not None:
        forget(before)
