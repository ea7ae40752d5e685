"""Shapes where they are missing: axes are read from real shapes, never guessed."""

from __future__ import annotations

import onnx_ir as ir

_TRIED = "bnfold.shapes_tried"


def ensure_shapes(model: ir.Model) -> None:
    """Infer shapes once if some node's output lacks one; what cannot be inferred stays unknown."""
    if model.meta.get(_TRIED):
        return
    if all(
        value.shape is not None for node in model.graph.all_nodes() for value in node.outputs if value.name
    ):
        return
    from folding.passes.shapes import infer_shapes  # pulls in onnx

    infer_shapes(model)
    model.meta[_TRIED] = True
