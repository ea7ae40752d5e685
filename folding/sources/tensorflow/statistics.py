"""Which variables are moving statistics, and what became of them in training.

A variable is one by its part in a batch norm of the graph; failing that by its name or by the moving-average
update that writes it.
"""

from __future__ import annotations

import re

import numpy as np

from folding.sources.tensorflow.graph import TfGraph, canonical, const_value, data_inputs, split

MEAN = re.compile(r"(^|/|_)(moving|running|pop(ulation)?|global|ema|avg|bn\w*)_?mean(_?\d+)?$|(^|/)mean_?ema$|mean/(biased|local_step)$")
VARIANCE = re.compile(
    r"(^|/|_)(moving|running|pop(ulation)?|global|ema|avg|bn\w*)_?(variance|var|std|inv)(_?\d+)?$|(^|/)variance_?ema$"
)
SHADOW = re.compile(r"(^|/)(moments|batch_moments|sufficient_statistics)\w*/Squeeze(_1)?/ExponentialMovingAverage(_\d+)?$")
_WRITES = ("Assign", "AssignSub", "AssignAdd", "AssignVariableOp", "AssignSubVariableOp", "AssignAddVariableOp",
           "ScatterUpdate", "ApplyMomentum")  # fmt: skip


def by_name(name: str) -> str | None:
    """`moving_mean`, `moving_variance` or None, from a variable's name alone."""
    if shadow := SHADOW.search(name):
        return "moving_variance" if shadow.group(2) else "moving_mean"
    base = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    if VARIANCE.search(base):
        return "moving_variance"
    return "moving_mean" if MEAN.search(base) else None


def statistic_of(graph: TfGraph, full: TfGraph, name: str) -> str | None:
    """The role of a variable as a moving statistic, or None for a weight."""
    if (role := by_name(name)) is not None:
        return role
    readers = _value_readers(graph, name)
    for node, position in readers:
        if node.op.startswith("FusedBatchNorm") and position in (3, 4):
            return "moving_mean" if position == 3 else "moving_variance"
    if not updates(full, name):
        return None
    for node, _ in readers:
        if node.op in ("Add", "AddV2") and any(
            reader.op in ("Sqrt", "Rsqrt") for reader, _ in _value_readers(graph, node.name)
        ):
            return "moving_variance"
    return "moving_mean" if any(node.op in ("Sub", "Mul") for node, _ in readers) else None


def _value_readers(graph: TfGraph, name: str) -> list[tuple[object, int]]:
    """Nodes that read a value, looking through identities, reads and merges."""
    found: list[tuple[object, int]] = []
    stack, seen = [name], set()
    while stack:
        current = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        for node in graph.nodes.values():
            for position, ref in enumerate(data_inputs(node)):
                if split(ref)[0] != current:
                    continue
                if node.op in ("Identity", "ReadVariableOp", "Merge", "Switch", "RefSwitch"):
                    stack.append(node.name)
                else:
                    found.append((node, position))
    return found


def updates(full: TfGraph, name: str) -> list[str]:
    """Nodes that write the variable after initialization: not its initializer, not a restore."""
    found = []
    for node in full.nodes.values():
        if node.op not in _WRITES:
            continue
        inputs = data_inputs(node)
        if not inputs or _through_switch(full, inputs[0]) != name:
            continue
        source = full.nodes.get(split(inputs[1])[0]) if len(inputs) > 1 else None
        if node.op in ("Assign", "AssignVariableOp") and _initial(full, node.name, name, source):
            continue
        found.append(node.name)
    for function in full.library.values():
        found += [n.name for n in function.node_def if n.op == "AssignSubVariableOp" and name in n.name]
    return found


def _through_switch(full: TfGraph, ref: str) -> str:
    name = split(ref)[0]
    node = full.nodes.get(name)
    while node is not None and node.op in ("RefSwitch", "Switch", "Identity", "RefIdentity"):
        name = split(node.input[0])[0]
        node = full.nodes.get(name)
    return name


def _initial(full: TfGraph, write: str, name: str, source: object) -> bool:
    if write in (f"{name}/Assign", f"{name}/initializer") or source is None:
        return True
    for _ in range(4):
        op: str = source.op  # type: ignore[attr-defined]
        if op in ("RestoreV2", "Restore", "RestoreSlice", "Const", "Fill"):
            return True
        if op != "Identity":
            return False
        source = full.nodes.get(split(source.input[0])[0])  # type: ignore[attr-defined]
        if source is None:
            return True
    return False


def initial_value(full: TfGraph, name: str) -> float | None:
    """The constant that the variable was initialized with, where that is one number."""
    for node in full.nodes.values():
        inputs = data_inputs(node)
        if node.op in ("Assign", "AssignVariableOp") and len(inputs) == 2 and canonical(inputs[0]) == name:
            source = full.nodes.get(split(inputs[1])[0])
            if source is not None and source.op == "Fill":
                source = full.nodes.get(split(source.input[1])[0])
            value = const_value(source) if source is not None and source.op == "Const" else None
            if value is not None and value.size and np.all(value == value.reshape(-1)[0]):
                return float(value.reshape(-1)[0])
    return None
