"""Fused batch norms in training mode, in the one form that tf2onnx converts faithfully.

Given:  y, m, v = FusedBatchNormV3(x, gamma, beta, mean, variance, is_training=True, exponential_avg_factor=f)
Result: y = FusedBatchNormV3(x, gamma, beta, [], [], is_training=True, exponential_avg_factor=1)
        m = mean * (1 - f) + batch_mean * f;  v = variance * (1 - f) + batch_variance * f     (where read)

In training mode y is normalized with the statistics of the batch, whatever `f` is. tf2onnx takes the stored
statistics instead when `f` is not 1, which is another function.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from folding.sources.tensorflow.graph.tf_graph import (
    Node,
    TfGraph,
    const_value,
    data_inputs,
    dtype_of,
    numpy_dtype,
    split,
)

_FLOAT, _INT32 = 1, 3
_THROUGH = frozenset({"Identity", "ReadVariableOp", "Cast", "StopGradient", "Abs", "AddV2", "Add"})


@dataclass(frozen=True)
class Stored:
    """The stored statistics that a layer in training mode holds and does not use, as references."""

    mean: str
    variance: str


def is_batch_mode(node: Node) -> bool:
    """A fused batch norm that normalizes with the statistics of its batch."""
    if not node.op.startswith("FusedBatchNorm") or "Grad" in node.op:
        return False
    return bool(node.attr["is_training"].b) if "is_training" in node.attr else True


def stored_statistics(graph: TfGraph, node: Node) -> Stored | None:
    """What the layer would use in inference mode; None where it was given empty statistics."""
    inputs = data_inputs(node)
    if len(inputs) < 5 or any(_is_empty(graph, ref) for ref in inputs[3:5]):
        return None
    return Stored(inputs[3], inputs[4])


def source_name(graph: TfGraph, ref: str) -> str:
    """The variable or constant behind a statistic, to be named in a report; else the node itself."""
    name = split(ref)[0]
    for _ in range(16):
        node = graph.nodes.get(name)
        if node is None or node.op not in _THROUGH or not data_inputs(node):
            break
        name = split(data_inputs(node)[0])[0]
    return name


def normalize(graph: TfGraph) -> dict[str, tuple[str, str]]:
    """Rewrite in place. Returns layer node -> names of the stored mean and variance that it leaves unused."""
    held: dict[str, tuple[str, str]] = {}
    readers = graph.consumers()
    alias: dict[str, str] = {}
    for node in list(graph.nodes.values()):
        if not is_batch_mode(node):
            continue
        stored = stored_statistics(graph, node)
        if any(f"{node.name}:{index}" in readers for index in (1, 2)):
            alias.update(_moving(graph, node, stored))
        if stored is None:
            continue
        held[node.name] = (source_name(graph, stored.mean), source_name(graph, stored.variance))
        _forget(graph, node)
    graph.rewire(alias)
    return held


def _is_empty(graph: TfGraph, ref: str) -> bool:
    node = graph.nodes.get(split(ref)[0])
    value = const_value(node) if node is not None else None
    return value is not None and value.size == 0


def _forget(graph: TfGraph, node: Node) -> None:
    """Give the node empty statistics and the factor 1, which changes its first output in nothing."""
    kind = int(node.attr["U"].type) if "U" in node.attr else _FLOAT
    for position, role in ((3, "mean"), (4, "variance")):
        empty = graph.add("Const", f"{node.name}/no_{role}").name
        graph.set_constant(empty, np.zeros(0, numpy_dtype(kind)))
        node.input[position] = empty
    if node.op == "FusedBatchNormV3":
        node.attr["exponential_avg_factor"].f = 1.0


def _moving(graph: TfGraph, node: Node, stored: Stored | None) -> dict[str, str]:
    """The second and third output, spelled out: the batch's moments mixed with the stored ones."""
    name, x = node.name, data_inputs(node)[0]
    kind = int(node.attr["U"].type) if "U" in node.attr else _FLOAT
    layout = node.attr["data_format"].s.decode() or "NHWC"
    axes = [axis for axis, letter in enumerate(layout) if letter != "C"]
    factor = node.attr["exponential_avg_factor"].f if "exponential_avg_factor" in node.attr else 1.0

    def constant(role: str, value: np.ndarray) -> str:
        added = graph.add("Const", f"{name}/{role}").name
        graph.set_constant(added, value)
        return str(added)

    def mean(ref: str, *, keep: bool) -> str:
        added = graph.add("Mean", f"{name}/Mean", [ref, reduced], T=kind, Tidx=_INT32)
        added.attr["keep_dims"].b = keep
        return str(added.name)

    def binary(op: str, left: str, right: str) -> str:
        return str(graph.add(op, f"{name}/{op}", [left, right], T=kind).name)

    if dtype_of(node) != kind:
        x = graph.add("Cast", f"{name}/Cast", [x], SrcT=dtype_of(node), DstT=kind).name
    reduced = constant("reduced", np.asarray(axes, np.int32))
    average = mean(x, keep=False)
    spread = mean(binary("SquaredDifference", x, mean(x, keep=True)), keep=False)
    spread = binary("Mul", spread, _bessel(graph, name, x, kind, axes))
    result = {f"{name}:1": average, f"{name}:2": spread}
    if stored is None or factor == 1.0:
        return result
    new, old = (constant(role, np.asarray(part, numpy_dtype(kind)))
                for role, part in (("new", factor), ("old", 1.0 - np.float32(factor))))  # fmt: skip
    return {
        key: binary("AddV2", binary("Mul", before, old), binary("Mul", result[key], new))
        for key, before in ((f"{name}:1", stored.mean), (f"{name}:2", stored.variance))
    }


def _bessel(graph: TfGraph, name: str, x: str, kind: int, axes: list[int]) -> str:
    """n / max(n - 1, 1), n the number of values of one channel: the batch's variance is told unbiased."""

    def constant(role: str, value: np.ndarray) -> str:
        added = graph.add("Const", f"{name}/{role}").name
        graph.set_constant(added, value)
        return str(added)

    shape = graph.add("Shape", f"{name}/Shape", [x], T=kind, out_type=_INT32).name
    dims = graph.add("GatherV2", f"{name}/sizes", [shape, constant("axes", np.asarray(axes, np.int32)),
                     constant("first", np.asarray(0, np.int32))],
                     Tparams=_INT32, Tindices=_INT32, Taxis=_INT32).name  # fmt: skip
    count = graph.add("Prod", f"{name}/count", [dims, constant("all", np.asarray([0], np.int32))],
                      T=_INT32, Tidx=_INT32)  # fmt: skip
    count.attr["keep_dims"].b = False
    n = graph.add("Cast", f"{name}/n", [count.name], SrcT=_INT32, DstT=kind).name
    one = constant("one", np.asarray(1, numpy_dtype(kind)))
    less = graph.add("Sub", f"{name}/less", [n, one], T=kind).name
    least = graph.add("Maximum", f"{name}/least", [less, one], T=kind).name
    return str(graph.add("RealDiv", f"{name}/unbiased", [n, least], T=kind).name)
