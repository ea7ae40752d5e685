"""Shapes where they are missing: axes are read from real shapes, never guessed."""

from __future__ import annotations

import onnx_ir as ir

_TRIED = "bnfold.shapes_tried"


def ensure_shapes(model: ir.Model) -> None:
    """Inline functions, and infer shapes once if some node's output lacks one.

    A function called twice needs two sets of weights, so a body is no place to fold into. What cannot be
    inferred stays unknown.
    """
    if model.functions:
        from folding.ir.inline_functions import inline_functions

        inline_functions(model)
    if model.meta.get(_TRIED):
        return
    if all(
        value.shape is not None for node in model.graph.all_nodes() for value in node.outputs if value.name
    ):
        return
    from folding.ir.infer_shapes import infer_shapes  # pulls in onnx

    infer_shapes(model)
    model.meta[_TRIED] = True
