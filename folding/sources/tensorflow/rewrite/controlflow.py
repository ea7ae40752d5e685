"""Conditionals whose predicate is known are resolved; the others stay what they are.

Given:  s = Switch(x, p=False); a = f(s:1); b = g(s:0); m = Merge(a, b)
Result: m = g(x)

Deadness follows TensorFlow's own rule: an output of a Switch that was not taken is dead; a node with a dead
input, control inputs included, is dead; a Merge is dead when all of its inputs are. Back edges of loops are
alive. Control edges serve this and nothing else here: they are dropped afterwards, which is what takes the
update ops, savers and summaries out of an inference graph.
"""

from __future__ import annotations

import numpy as np

from folding.sources.tensorflow.graph.constant_eval import evaluate, leaves
from folding.sources.tensorflow.graph.tf_graph import (
    Node,
    TfGraph,
    canonical,
    data_inputs,
    join,
    split,
)

SELECTS = frozenset({"Select", "SelectV2"})
_PIVOTS = frozenset({"Switch", "Identity", "Merge", "Enter", "NextIteration", "LoopCond"})


def resolve_switches(graph: TfGraph) -> dict[str, str]:
    """Aliases (canonical reference -> reference) that take dead branches out. Changes nothing."""
    dead, alias = _dead(graph)
    for node in graph.nodes.values():
        if node.op == "Merge":
            alive = [ref for ref in data_inputs(node) if not _is_dead(ref, dead)]
            if len(alive) == 1 and len(data_inputs(node)) > 1:
                alias[canonical(node.name)] = alive[0]
    return alias


def alive_view(graph: TfGraph) -> TfGraph:
    """The graph without its dead branches, under the names that it has; for questions, not for conversion."""
    dead, alias = _dead(graph)
    for node in graph.nodes.values():
        if node.op == "Merge":
            alive = [ref for ref in node.input if not _is_dead(ref, dead)]
            del node.input[:]
            node.input.extend(alive)
    gone = dead | {split(ref)[0] for ref in alias}
    graph.rewire(alias)
    graph.keep({name for name in graph.nodes if name not in gone})
    return graph


def _is_dead(ref: str, dead: set[str]) -> bool:
    name, index = split(ref)
    return name in dead or (index >= 0 and f"{name}:{index}" in dead)


def _dead(graph: TfGraph) -> tuple[set[str], dict[str, str]]:
    """Dead references (`node` for a whole node, `node:0` for one Switch output) and Switch aliases."""
    dead: set[str] = set()
    alias: dict[str, str] = {}
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes.values():
        for ref in node.input:
            readers.setdefault(split(ref)[0], []).append(node)
    queue = [node for node in graph.nodes.values() if node.op == "Switch"]
    for node in queue:
        predicate = evaluate(graph, node.input[1])
        if predicate is None or predicate.size != 1:
            continue
        taken = int(bool(predicate.reshape(())))
        dead.add(f"{node.name}:{1 - taken}")
        alias[join(node.name, taken)] = node.input[0]
    work = [reader for node in queue for reader in readers.get(node.name, ())]
    while work:
        node = work.pop()
        if node.name in dead:
            continue
        inputs = data_inputs(node)
        if node.op == "Merge":
            killed = bool(inputs) and all(_is_dead(ref, dead) for ref in inputs)
        else:
            killed = any(_is_dead(ref, dead) for ref in inputs) or any(
                split(ref)[0] in dead for ref in node.input if ref.startswith("^")
            )
        if killed:
            dead.add(node.name)
            work.extend(readers.get(node.name, ()))
    return dead, alias


def merge_indices(graph: TfGraph) -> None:
    """`Merge:1` (which input arrived) of resolved merges becomes a constant; call before rewiring."""
    dead, _ = _dead(graph)
    consumers = graph.consumers()
    for node in list(graph.nodes.values()):
        inputs = data_inputs(node)
        if node.op != "Merge" or f"{node.name}:1" not in consumers:
            continue
        alive = [index for index, ref in enumerate(inputs) if not _is_dead(ref, dead)]
        if len(alive) == 1:
            constant = graph.add("Const", f"{node.name}/value_index")
            graph.set_constant(constant.name, np.asarray(alive[0], np.int32))
            graph.rewire({f"{node.name}:1": constant.name})


def resolve_selects(graph: TfGraph) -> dict[str, str]:
    """Aliases for Select nodes whose scalar condition is known."""
    alias = {}
    for node in graph.nodes.values():
        if node.op in SELECTS:
            condition = evaluate(graph, node.input[0])
            if condition is not None and condition.ndim == 0:
                alias[node.name] = node.input[1 if bool(condition) else 2]
    return alias


def resolve_blends(graph: TfGraph, modes: dict[str, np.ndarray]) -> dict[str, str]:
    """Aliases for `phase * batch + (1 - phase) * stored` with a numeric flag of 0 or 1.

    Only factors that rest on a flag alone count: nothing else is taken to be finite.
    """
    flags = {name for name, value in modes.items() if value.dtype.kind in "fiu"}
    zeros: set[str] = set()
    alias: dict[str, str] = {}
    for node in graph.in_order() if flags else ():
        inputs = data_inputs(node)
        if node.op == "Mul":
            for factor, other in (inputs, inputs[::-1]):
                value = evaluate(graph, factor) if leaves(graph, factor) & flags else None
                if value is not None and value.ndim == 0 and value == 0:
                    zeros.add(node.name)
                elif value is not None and value.ndim == 0 and value == 1:
                    alias[node.name] = other
        elif node.op in ("Add", "AddV2", "Sub") and len(inputs) == 2:
            if canonical(inputs[1]) in zeros:
                alias[node.name] = inputs[0]
            elif canonical(inputs[0]) in zeros and node.op != "Sub":
                alias[node.name] = inputs[1]
    return alias


def drop_control_edges(graph: TfGraph, *, keep_pivots: bool) -> None:
    """Remove control edges; those from the pivots of unresolved conditionals may stay, for the executor."""
    for node in graph.nodes.values():
        if not any(ref.startswith("^") for ref in node.input):
            continue
        kept = [
            ref for ref in node.input
            if not ref.startswith("^") or (keep_pivots and _is_pivot(graph, ref[1:]))
        ]  # fmt: skip
        del node.input[:]
        node.input.extend(kept)


def drop_lost_control(graph: TfGraph) -> None:
    """Remove control edges from nodes that are gone."""
    for node in graph.nodes.values():
        lost = [ref for ref in node.input if ref.startswith("^") and ref[1:] not in graph.nodes]
        for ref in lost:
            node.input.remove(ref)


def _is_pivot(graph: TfGraph, name: str) -> bool:
    node = graph.nodes.get(name)
    if node is None or node.op not in _PIVOTS:
        return False
    if node.op == "Identity":  # switch_t of a conditional; in a loop, what holds its constants in the frame
        source = graph.nodes.get(split(node.input[0])[0])
        return source is not None and source.op == "Switch"
    if node.op == "Merge":  # of a loop: its predicate's constants wait for it
        return any(
            (source := graph.nodes.get(split(ref)[0])) is not None and source.op == "NextIteration"
            for ref in data_inputs(node)
        )
    return node.op in ("Switch", "LoopCond")
