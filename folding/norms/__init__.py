"""Find every batch norm of a graph, whatever its spelling."""

from __future__ import annotations

import onnx_ir as ir

from folding.norms import onnx_batch_norm
from folding.norms.base import BatchNorm, NormHint
from folding.norms.constants import Constants


def find(model: ir.Model, hints: list[NormHint] | None = None, *, freeze_inputs: bool = False) -> list[BatchNorm]:
    """Batch norms in graph order, subgraphs included; then those that only the hints know."""
    constants = Constants(model, freeze_inputs=freeze_inputs)
    nodes = list(model.graph.all_nodes())
    return onnx_batch_norm.find(nodes, constants)
