"""Cleaning, in two stages: `prepare` before batch norms are searched, `clean` after they are folded."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from folding.options import FoldOptions
from folding.passes.shapes import infer_shapes


def prepare(model: ir.Model, options: FoldOptions) -> None:
    """Bring the graph into the form that norms and rules expect."""
    infer_shapes(model)


def clean(model: ir.Model, options: FoldOptions) -> None:
    """Make the folded graph small."""
    common.RemoveUnusedNodesPass()(model)
