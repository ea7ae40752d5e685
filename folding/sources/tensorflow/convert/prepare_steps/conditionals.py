"""Mode flags, calls and conditionals."""

from __future__ import annotations

from folding.sources.tensorflow.graph.constant_eval import evaluate
from folding.sources.tensorflow.graph.tf_graph import (
    TfGraph,
)
from folding.sources.tensorflow.infer.mode_flags import Modes
from folding.sources.tensorflow.rewrite import controlflow
from folding.sources.tensorflow.rewrite.dropout import turn_dropout_off
from folding.sources.tensorflow.rewrite.inline import Inliner, branch


def resolve(graph: TfGraph, roots: list[str], modes: Modes) -> TfGraph:
    """Inline, set flags and resolve until nothing changes. Returns the copy from before resolution."""
    inliner = Inliner(graph)
    inliner.run(roots)
    modes.settle(graph, roots)
    readable = graph.copy()
    changed = True
    while changed:
        changed = _resolve_functional(graph, roots, inliner)
        changed = inliner.run(roots) or changed
        changed = modes.settle(graph, roots) or changed
    turn_dropout_off(graph, graph.ancestors(roots, control=True))
    controlflow.merge_indices(graph)
    resolve = graph.rewire({**controlflow.resolve_switches(graph)})
    roots[:] = [resolve(root) for root in roots]
    for alias in (controlflow.resolve_selects(graph), controlflow.resolve_blends(graph, modes.values)):
        resolve = graph.rewire(alias)
        roots[:] = [resolve(root) for root in roots]
    turn_dropout_off(graph, graph.ancestors(roots, control=True))  # a rate may have been a conditional
    return readable


def _resolve_functional(graph: TfGraph, roots: list[str], inliner: Inliner) -> bool:
    changed = False
    for name in list(graph.ancestors(roots, control=True)):
        node = graph.nodes[name]
        if node.op not in ("If", "StatelessIf", "Case", "StatelessCase"):
            continue
        predicate = evaluate(graph, node.input[0])
        if predicate is not None and (taken := branch(node, predicate)):
            inliner.inline(node, *taken)
            changed = True
    if changed:
        graph.rewire(inliner.alias)
        roots[:] = [inliner.resolve(root) for root in roots]
    return changed
