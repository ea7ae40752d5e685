"""Fold every affine that can be folded exactly, and give a reason for each that is not."""

from __future__ import annotations

import onnx_ir as ir

from folding.ir import query as g
from folding.ir.ensure_shapes import ensure_shapes
from folding.norms import find
from folding.norms.base import BatchNorm
from folding.norms.constants import Constants
from folding.options import FoldOptions
from folding.passes import clean
from folding.passes.base import snapshot
from folding.passes.freeze import freeze_inputs
from folding.progress import Progress
from folding.rules import driver, sites
from folding.rules.base import FoldResult
from folding.rules.engine import Propagator
from folding.rules.interface import Context, Rule
from folding.rules.outcome import completed
from folding.rules.registry import RULES
from folding.rules.writing.rounding import forget_all

_ROUNDS = 8  # each takes affines into other nodes, so this ends; far above what is needed


def fold(model: ir.Model, norms: list[BatchNorm], options: FoldOptions | None = None) -> FoldResult:
    """Fold `norms`, and anonymous constant affines on the way, into the weights of `model`, in place.

    Graph inputs and outputs keep names, order, types and shapes. The same model gives the same bytes.
    """
    result = _rounds(model, norms, options or FoldOptions())
    forget_all(model)
    return result


def fold_and_clean(
    model: ir.Model, norms: list[BatchNorm], options: FoldOptions, progress: Progress | None = None
) -> FoldResult:
    """Fold as `fold` does and clean, until neither changes the other's result.

    Cleaning moves layouts and fuses activations, after which an affine that stayed may move on, or be stated
    in fewer nodes. Constants are rounded once, over all rounds.
    """
    progress = progress or Progress()
    with progress.stage("fold"):
        result = _rounds(model, norms, options)
    with progress.stage("clean"):
        clean(model, options)
        for _ in range(_ROUNDS):
            before = snapshot(model)
            result = _joined(result, _rounds(model, _found(model, norms, options), options))
            if snapshot(model) == before:
                break
            clean(model, options)
        forget_all(model)
    return result


def _rounds(model: ir.Model, norms: list[BatchNorm], options: FoldOptions) -> FoldResult:
    """Rounds of the engine until no affine has a new neighbour."""
    ensure_shapes(model)
    if options.freeze_inputs:
        freeze_inputs(model)
    result = _round(model, norms, options)
    for _ in range(_ROUNDS):
        if not result.unsettled:
            break
        result = _joined(result, _round(model, _found(model, norms, options), options))
    return result


def _found(model: ir.Model, norms: list[BatchNorm], options: FoldOptions) -> list[BatchNorm]:
    """The batch norms that are left, where the source had any."""
    return find(model, freeze_inputs=options.freeze_inputs) if norms else []


def _round(model: ir.Model, norms: list[BatchNorm], options: FoldOptions) -> FoldResult:
    """One run of the engine over the graph as it is."""
    constants = Constants(model, freeze_inputs=options.freeze_inputs)
    ctx = Context(model, constants, options, names=g.used_names(model))
    by_op: dict[str, Rule] = {op: rule for rule in RULES for op in rule.ops}
    found, refused = sites.collect(ctx, norms)
    propagator = Propagator(ctx, by_op, found)
    return driver.Fold(ctx, propagator, found, refused, norms).run()


def _joined(first: FoldResult, later: FoldResult) -> FoldResult:
    """What two rounds did: norms that the first one left and the later one found again by their output."""
    now = {id(decision.norm.output): decision for decision in later.decisions}
    decisions, left = [], {}
    for decision in first.decisions:
        value = first.left.get(decision.norm)
        again = None if value is None else now.get(id(value))
        decisions.append(decision if again is None else completed(decision, again))
        output = value if again is None else later.left.get(again.norm)
        if output is not None:
            left[decision.norm] = output
    names = dict.fromkeys((*first.fold_sites, *later.fold_sites))
    return FoldResult(
        tuple(decisions), tuple(names), (*first.notes, *later.notes), left, unsettled=later.unsettled
    )
