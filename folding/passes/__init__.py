"""Cleaning, in two stages: `prepare` before batch norms are searched, `clean` after they are folded.

Each stage is one tuple of passes in order; `why` says why a pass stands where it stands. Passes are run again
until none changes anything. To add one: a file with a function `(model) -> changed`, and a line here.
"""

from __future__ import annotations

import onnx_ir as ir

from folding.ir.edit import KEEP_BRANCHES, index_names
from folding.ir.infer_shapes import complete, infer_shapes
from folding.ir.inline_functions import inline_functions
from folding.options import FoldOptions
from folding.passes import (
    activations,
    chains,
    conv1d,
    flatten,
    fuse_decomposed,
    fuse_pairs,
    gemms,
    hazards,
    identities,
    normalizations,
    pads,
    pools,
    sums,
)
from folding.passes.base import ROUNDS, Pass, peepholes, run_once, run_until_stable
from folding.passes.branches import resolve
from folding.passes.constants import fold_all, fold_structure, lift_constants
from folding.passes.dead_code import remove_dead_code
from folding.passes.duplicates import merge_initializers, merge_nodes
from folding.passes.fix_input_shapes import fix_input_shapes as fix_input_shapes
from folding.passes.freeze import freeze_inputs
from folding.passes.layout import eliminate_transposes
from folding.passes.opsets import convert
from folding.passes.shape_values import fold_shape_values

ONCE_BEFORE = (
    Pass("inline_functions", inline_functions, "first: no other pass looks into function bodies"),
    Pass("lift_constants", lift_constants, "before shapes: inference reads initializers only"),
    Pass("infer_shapes", infer_shapes, "before everything that asks for a rank or a dimension"),
    Pass("remove_dead_code", remove_dead_code, "a mask that nobody reads would hold its node in place"),
)

PREPARE = (
    Pass("fold_structure", fold_structure, "first: computed shapes and run-time biases become constants"),
    Pass(
        "fold_shape_values", fold_shape_values, "what is known of shapes in part, after what is known whole"
    ),
    Pass("resolve_branches", resolve, "as soon as conditions are constants"),
    Pass(
        "identities", peepholes(identities.RULES), "Dropout and Identity stand between a layer and its norm"
    ),
    Pass("chains", peepholes(chains.RULES), "after identities: what stood between two reshapes is gone"),
    Pass("pairs", peepholes(fuse_pairs.RULES), "an Einsum becomes the MatMul that rules know"),
    Pass("activations", peepholes(activations.RULES), "a hard swish is one node to a rule, not four affines"),
    Pass(
        "written_out",
        peepholes(fuse_decomposed.RULES),
        "before rules: scales of GELU and layer norm are not affines",
    ),
    Pass("conv1d", peepholes(conv1d.RULES), "before layout: leaves Transposes of rank 3 behind"),
    Pass("eliminate_transposes", eliminate_transposes, "last: moves constants, which the others have made"),
)

PASSES = (
    Pass("fold_all", fold_all, "first: what the fold left over is constant arithmetic"),
    Pass("fold_shape_values", fold_shape_values, "as in preparation"),
    Pass("identities", peepholes(identities.RULES), "folding makes neutral elements: x * 1, x + 0"),
    Pass("chains", peepholes(chains.RULES), "after identities: neighbours have met"),
    Pass("activations", peepholes(activations.RULES), "before layout: fewer nodes to move"),
    Pass("pairs", peepholes(fuse_pairs.RULES), "likewise"),
    Pass("pads", peepholes(pads.RULES), "before layout: Pad next to Conv is how it is written"),
    Pass("normalizations", peepholes(normalizations.RULES), "before layout: a norm would hold it in place"),
    Pass("eliminate_transposes", eliminate_transposes, "folded norms no longer hold a layout in place"),
    Pass("flatten", peepholes(flatten.RULES), "after layout: only Transposes that stay are worth it"),
    Pass("pools", peepholes(pools.RULES), "after layout: axes are where pooling wants them"),
    Pass("sums", peepholes(sums.RULES), "before gemms: one Add behind a product becomes its bias"),
    Pass("gemms", peepholes(gemms.RULES), "after layout: reshapes have gone from between product and bias"),
    Pass("merge_initializers", merge_initializers, "before nodes: equal operands make equal nodes"),
    Pass("merge_nodes", merge_nodes, "last rewrite: sees the final form of everything"),
    Pass("remove_dead_code", remove_dead_code, "after everything that strands nodes"),
)

LATE = (
    Pass("late_chains", peepholes(chains.LATE), "a Reshape would have held layouts in place before"),
    Pass("chains", peepholes(chains.RULES), "those reshapes may meet others"),
    Pass("remove_dead_code", remove_dead_code, "what the chains left"),
)

FINALLY = (Pass("avoid_hazards", hazards.avoid, "last: no later pass may undo it"),)


def prepare(model: ir.Model, options: FoldOptions, *, keep_branches: bool = False) -> None:
    """Bring the graph into the form that norms and rules expect. Parameters stay as they are.

    keep_branches: leave If nodes and what is inside them alone, now and in `clean` (see `pipeline`).
    """
    model.meta[KEEP_BRANCHES] = keep_branches
    index_names(model)
    if options.freeze_inputs:
        freeze_inputs(model)
    run_once(model, ONCE_BEFORE)
    if options.opset is not None and options.opset > model.graph.opset_imports.get("", 1):
        convert(model, options.opset)  # up: first, so that newer operators can be used
    index_names(model)
    if run_until_stable(model, PREPARE):
        infer_shapes(model)
        run_until_stable(model, PREPARE)
    remove_dead_code(model)
    if options.opset is not None and options.opset < model.graph.opset_imports.get("", 1):
        convert(model, options.opset)  # down: last, when what has no counterpart may be gone


def clean(model: ir.Model, options: FoldOptions) -> None:
    """Make the folded graph the smallest and fastest that still computes the same."""
    index_names(model)
    lift_constants(model)
    if not complete(model):
        infer_shapes(model)
    for _ in range(ROUNDS):
        changed = run_until_stable(model, PASSES) > 0
        if not run_once(model, LATE) and not changed:
            break
        infer_shapes(model)  # new values have shapes that allow more
    run_once(model, FINALLY)
