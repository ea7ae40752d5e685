"""Find every batch norm of a graph, whatever its spelling. One file per spelling."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from folding.ir.ensure_shapes import ensure_shapes
from folding.norms import arithmetic, batch_statistics, input_affines, onnx_batch_norm
from folding.norms import match_names as hinted
from folding.norms.base import BatchNorm, NormHint
from folding.norms.constants import Constants

__all__ = ["SPELLINGS", "BatchNorm", "NormHint", "find", "input_affines"]

SPELLINGS: tuple[Callable[[list[ir.Node], Constants], list[BatchNorm]], ...] = (
    onnx_batch_norm.find,  # one node: nothing to guess
    arithmetic.find,  # constant arithmetic around sqrt(variance + epsilon)
    batch_statistics.find,  # moments of the batch: reported, never folded as they are
)


def find(
    model: ir.Model, hints: list[NormHint] | None = None, *, freeze_inputs: bool = False
) -> list[BatchNorm]:
    """Batch norms in graph order, subgraphs included; then those that only the hints know.

    Reads no array but the norms' own. Changes nothing but fills in missing shapes.
    """
    ensure_shapes(model)
    constants = Constants(model, freeze_inputs=freeze_inputs)
    nodes = list(model.graph.all_nodes())
    order = {node: i for i, node in enumerate(nodes)}
    norms: list[BatchNorm] = []
    taken: set[ir.Node] = set()
    for spelling in SPELLINGS:
        fresh = [norm for norm in spelling(nodes, constants) if taken.isdisjoint(norm.nodes)]
        taken.update(node for norm in fresh for node in norm.nodes)
        norms += fresh
    norms.sort(key=lambda norm: order[norm.nodes[0]])
    return hinted.join(norms, list(hints or ()), nodes, constants)
