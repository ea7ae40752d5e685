"""`--feed training=false`: training mode that is written into the graph, switched to the stored statistics.

Given:  y, m, v = FusedBatchNorm(x, g, b, [], [], is_training=True);  AssignSub(mean, (mean - m) * 0.1)
Result: y = FusedBatchNorm(x, g, b, mean, variance, is_training=False)

Given:  y = FusedBatchNorm(x, g, b, mean, variance, is_training=True)          as Keras 2 writes training=True
Result: y = FusedBatchNorm(x, g, b, mean, variance, is_training=False)

Given:  m = Squeeze(Mean(x)), v = Squeeze(Mean(SquaredDifference)), used by the norm and by updates alike
Result: the norm reads the variables that the updates write

Only done when asked: a graph that is in training mode computes batch statistics, and so do we unless told.
"""

from __future__ import annotations

from folding.report import Assumption
from folding.sources.tensorflow.graph.tf_graph import (
    VARIABLE_OPS,
    TfGraph,
    canonical,
    data_inputs,
    dtype_of,
    split,
)
from folding.sources.tensorflow.rewrite import batch_mode

FEED = "training"
_WRITES = frozenset({"Assign", "AssignSub", "AssignVariableOp", "AssignSubVariableOp"})
_STEPS = 8  # nodes between a batch statistic and the update that it goes into


def asked(feeds: object) -> bool:
    """Whether the user fed `training` a false value."""
    value = feeds.get(FEED) if isinstance(feeds, dict) else None
    return value is not None and str(value).lower() in ("false", "0", "0.0")


def switch(graph: TfGraph, full: TfGraph) -> list[Assumption]:
    """Rewrite every hard-wired layer whose stored statistics are known. Returns what was done."""
    switched = _own_statistics(graph)
    alias: dict[str, str] = {}
    training = {name for name, node in graph.nodes.items() if batch_mode.is_batch_mode(node)}
    # a saved function updates inside, a graph of TensorFlow 1 beside what inference runs
    for ref, variable in (sources(full) | sources(graph)).items():
        name, index = split(ref)
        node = graph.nodes.get(name)
        if node is None or (node.op.startswith("FusedBatchNorm") and name not in training):
            continue
        read = _reader(graph, full, variable)
        if node.op.startswith("FusedBatchNorm"):
            node.attr["is_training"].b = False
            node.input[2 + index] = read
        else:
            alias[canonical(ref)] = read
        switched[variable] = read
    graph.rewire(alias)
    if not switched:
        return []
    return [
        Assumption(
            what=FEED,
            value="False",
            why=f"asked for: the graph is in training mode; {len(switched)} stored statistics are used",
            override="leave --feed training=false out to keep the batch's statistics",
        )
    ]


def already_off() -> Assumption:
    """That there was nothing to switch: Keras 3 calls every layer of a model with the mode of the call."""
    return Assumption(
        what=FEED,
        value="False",
        why="asked for: Keras 3 runs a loaded model in inference mode throughout, also layers that "
        "were called with training=True",
        override="model.export of the running program keeps training=True",
    )


def _own_statistics(graph: TfGraph) -> dict[str, str]:
    """Switch the layers that were given their stored statistics. Returns those by the name of each."""
    switched: dict[str, str] = {}
    alias: dict[str, str] = {}
    for node in graph.nodes.values():
        if not batch_mode.is_batch_mode(node):
            continue
        stored = batch_mode.stored_statistics(graph, node)
        if stored is None:
            continue
        node.attr["is_training"].b = False
        for index, ref in ((1, stored.mean), (2, stored.variance)):
            switched[batch_mode.source_name(graph, ref)] = ref
            alias[f"{node.name}:{index}"] = ref
    graph.rewire(alias)
    return switched


def sources(full: TfGraph) -> dict[str, str]:
    """Batch statistic (reference) -> variable that its moving average updates."""
    found: dict[str, str] = {}
    for node in full.nodes.values():
        inputs = data_inputs(node)
        if node.op not in _WRITES or len(inputs) < 2:
            continue
        variable = split(inputs[0])[0]
        holder = full.nodes.get(variable)
        if holder is None or holder.op not in VARIABLE_OPS:
            continue
        if ref := _statistic(full, inputs[1]):
            found[ref] = variable
    return found


def _statistic(full: TfGraph, ref: str) -> str | None:
    stack = [(ref, 0)]
    while stack:
        current, depth = stack.pop()
        name, index = split(current)
        node = full.nodes.get(name)
        if node is None or depth > _STEPS:
            continue
        if node.op.startswith("FusedBatchNorm") and "Grad" not in node.op:
            return canonical(current) if index in (1, 2) else None
        if node.op == "Squeeze" and _is_moment(full, node.input[0]):
            return canonical(current)
        if node.op in ("Sub", "Mul", "Add", "AddV2", "Identity", "Cast"):
            stack.extend((each, depth + 1) for each in data_inputs(node))
    return None


def _is_moment(full: TfGraph, ref: str) -> bool:
    node = full.nodes.get(split(ref)[0])
    return node is not None and node.op == "Mean"


def _reader(graph: TfGraph, full: TfGraph, variable: str) -> str:
    """The variable's value in the graph; the variable is brought in where pruning had taken it out."""
    if variable not in graph.nodes:
        node = full.nodes[variable]
        graph.nodes[variable] = type(node).FromString(node.SerializeToString())
    if graph.nodes[variable].op != "VarHandleOp":
        return variable
    name = f"{variable}/stored"
    if name not in graph.nodes:
        graph.add("ReadVariableOp", name, [variable], dtype=dtype_of(graph.nodes[variable]))
    return name
