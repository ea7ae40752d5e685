"""Where the saver keeps each variable: read off the graph's own restore op, never guessed.

Given:  r = RestoreV2(file, ["a", "b"], ["", "10 5 0,5:-"]);  Assign(x, r:0);  Assign(y, r:1)
Result: {x: Slot("a"), y: Slot("b", "10 5 0,5:-")}

Works through Identity, switches of devices, and the restore functions of TensorFlow 2 SavedModels.
"""

from __future__ import annotations

from typing import Any

from folding.sources.tensorflow.graph.program import Slot
from folding.sources.tensorflow.graph.tf_graph import TfGraph, const_value, data_inputs, split
from folding.sources.tensorflow.rewrite.inline import Inliner

_RESTORES = frozenset({"RestoreV2", "Restore", "RestoreSlice"})
_ASSIGNS = frozenset({"Assign", "AssignVariableOp"})


def slots(graph: TfGraph, saver: Any) -> dict[str, Slot]:
    """Slots by variable node; empty where the graph has no saver."""
    root = saver.restore_op_name.split(":")[0]
    names = graph.ancestors([root], control=True) if root in graph.nodes else set()
    if not names:
        names = {name for name, node in graph.nodes.items() if node.op in _RESTORES}
        readers = _readers(graph)
        for name in list(names):
            names.update(readers.get(name, ()))
            names |= {r2 for reader in readers.get(name, ()) for r2 in readers.get(reader, ())}
        names |= graph.ancestors(names, control=False)
    part = TfGraph(graph.to_graph_def(n for n in graph.nodes if n in names))
    roots = [root] if root in part.nodes else []
    if roots:
        Inliner(part).run(roots)
    return _assigned(part)


def _readers(graph: TfGraph) -> dict[str, list[str]]:
    readers: dict[str, list[str]] = {}
    for node in graph.nodes.values():
        for ref in data_inputs(node):
            readers.setdefault(split(ref)[0], []).append(node.name)
    return readers


def _assigned(graph: TfGraph) -> dict[str, Slot]:
    found: dict[str, Slot] = {}
    lists: dict[
        str, list[str]
    ] = {}  # a RestoreV2 names every variable: decode that once, not once per variable
    for node in graph.nodes.values():
        if node.op not in _ASSIGNS:
            continue
        inputs = data_inputs(node)
        if len(inputs) < 2:
            continue
        source, index = split(inputs[1])
        while source in graph.nodes and graph.nodes[source].op in ("Identity", "Cast", "Reshape"):
            source, index = split(graph.nodes[source].input[0])
        restore = graph.nodes.get(source)
        if restore is None or restore.op not in _RESTORES:
            continue
        slot = _slot(graph, restore, index, lists)
        if slot is not None:
            found[split(inputs[0])[0]] = slot
    return found


def _slot(graph: TfGraph, restore: Any, index: int, lists: dict[str, list[str]]) -> Slot | None:
    names = _strings(graph, restore.input[1], lists)
    specs = _strings(graph, restore.input[2], lists) if restore.op != "Restore" else []
    if index >= len(names):
        return None
    return Slot(names[index], specs[index] if index < len(specs) else "")


def _strings(graph: TfGraph, ref: str, lists: dict[str, list[str]]) -> list[str]:
    name = split(ref)[0]
    while name in graph.nodes and graph.nodes[name].op == "Identity":
        name = split(graph.nodes[name].input[0])[0]
    if name not in lists:
        node = graph.nodes.get(name)
        value = const_value(node) if node is not None else None
        items = [] if value is None else value.reshape(-1).tolist()
        lists[name] = [i.decode("utf-8", "replace") if isinstance(i, bytes) else str(i) for i in items]
    return lists[name]
