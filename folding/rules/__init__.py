"""Fold every affine that can be folded exactly, and give a reason for each that is not."""

from __future__ import annotations

import onnx_ir as ir

from folding.ir import query as g
from folding.ir.ensure_shapes import ensure_shapes
from folding.norms import find
from folding.norms.base import BatchNorm
from folding.norms.constants import Constants
from folding.options import FoldOptions
from folding.passes.freeze import freeze_inputs
from folding.rules import driver, sites
from folding.rules.base import FoldResult
from folding.rules.engine import Propagator
from folding.rules.interface import Context, Rule
from folding.rules.registry import RULES


def fold(model: ir.Model, norms: list[BatchNorm], options: FoldOptions | None = None) -> FoldResult:
    """Fold `norms`, and anonymous constant affines on the way, into the weights of `model`, in place.

    Graph inputs and outputs keep names, order, types and shapes. The same model gives the same bytes.
    """
    options = options or FoldOptions()
    ensure_shapes(model)
    if options.freeze_inputs:
        freeze_inputs(model)
    result, borders = _round(model, norms, options)
    while borders:  # each takes an affine into a node behind it, so this ends
        found = find(model, freeze_inputs=options.freeze_inputs) if norms else []
        _, borders = _round(model, found, options)
    return result


def _round(model: ir.Model, norms: list[BatchNorm], options: FoldOptions) -> tuple[FoldResult, int]:
    """One run of the engine, and how many border maps it wrote: affines that were not there to be merged."""
    constants = Constants(model, freeze_inputs=options.freeze_inputs)
    ctx = Context(model, constants, options, names=g.used_names(model))
    by_op: dict[str, Rule] = {op: rule for rule in RULES for op in rule.ops}
    found, refused = sites.collect(ctx, norms)
    propagator = Propagator(ctx, by_op, found)
    result = driver.Fold(ctx, propagator, found, refused, norms).run()
    return result, propagator.writer.borders
