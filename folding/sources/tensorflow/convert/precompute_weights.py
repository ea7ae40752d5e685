"""Weights that are computed from weights: weight and spectral norm, standardization, scaled learning rates.

Given:  w = v * g / sqrt(sum(v^2));  y = Conv2D(x, w)
Result: y = Conv2D(x, w)              w a weight, as TensorFlow itself computes it, once

The reference goes on computing them at every run.
"""

from __future__ import annotations

import numpy as np

from folding.sources.tensorflow.convert.prepare_inference_graph import Prepared
from folding.sources.tensorflow.convert.prepare_steps.constants import to_placeholder
from folding.sources.tensorflow.graph import protobuf_io
from folding.sources.tensorflow.graph.program import Weights
from folding.sources.tensorflow.graph.runtime import tensorflow
from folding.sources.tensorflow.graph.tf_graph import Node, TfGraph, canonical, data_inputs, dtype_of, split
from folding.sources.tensorflow.graph.weights import read_slot

_FLOATS = frozenset({1, 2, 14, 19})
_WEIGHT_INPUTS = {
    "Conv2D": (1,), "Conv3D": (1,), "DepthwiseConv2dNative": (1,), "Conv2DBackpropInput": (1,),
    "Conv3DBackpropInputV2": (1,), "MatMul": (0, 1), "BatchMatMulV2": (0, 1), "BatchMatMulV3": (0, 1),
}  # fmt: skip
# these move elements only; the binder and the passes do that lazily, or in the arithmetic of the weight
_MOVES = frozenset({"Const", "Placeholder", "Identity", "Reshape", "Transpose", "Squeeze", "ExpandDims",
                    "Cast", "ConcatV2", "Concat", "Pack", "Slice", "StridedSlice", "Split", "SplitV",
                    "Shape"})  # fmt: skip
_NEVER = frozenset({"Switch", "Merge", "Enter", "Exit", "NextIteration", "LoopCond", "If", "StatelessIf",
                    "While", "StatelessWhile", "Case", "StatelessCase"})  # fmt: skip


def precompute(prepared: Prepared, weights: Weights) -> list[str]:
    """Compute such weights and put them into `prepared.constants`. Returns their names."""
    graph = prepared.graph
    leaves = {*prepared.slots, *prepared.constants, *prepared.missing}
    fixed = _fixed(graph, leaves)
    wanted = sorted({ref for node in graph.nodes.values() for ref in _computed(graph, node, fixed)})
    if not wanted:
        return []
    needed = graph.ancestors(wanted, control=False)
    feeds = {name: _value(prepared, weights, name) for name in sorted(leaves & needed)}
    for name, value in _run(graph, needed, wanted, feeds).items():
        to_placeholder(graph, name, value)
        prepared.constants[name] = value
    return wanted


def _fixed(graph: TfGraph, leaves: set[str]) -> set[str]:
    """Nodes whose value rests on weights and constants alone."""
    fixed: set[str] = set()
    for node in graph.in_order():
        inputs = [split(ref)[0] for ref in node.input]
        known = node.op == "Const" or node.name in leaves
        if known or (inputs and _pure(node) and all(name in fixed for name in inputs)):
            fixed.add(node.name)
    return fixed


def _pure(node: Node) -> bool:
    random = "Random" in node.op or node.op == "Multinomial"
    return node.op not in _NEVER and not random


def _computed(graph: TfGraph, node: Node, fixed: set[str]) -> list[str]:
    """Weight inputs of a linear node that arithmetic leads to."""
    inputs, found = data_inputs(node), []
    for index in _WEIGHT_INPUTS.get(node.op, ()):
        ref = canonical(inputs[index])
        if ref in fixed and node.name not in fixed and dtype_of(graph.nodes[ref]) in _FLOATS:
            ops = {graph.nodes[name].op for name in graph.ancestors([ref], control=False)}
            if ops - _MOVES:
                found.append(ref)
    return found


def _value(prepared: Prepared, weights: Weights, name: str) -> np.ndarray:
    if name in prepared.slots:
        return read_slot(weights, prepared.slots[name])
    return prepared.constants[name] if name in prepared.constants else prepared.missing[name]


def _run(
    graph: TfGraph, needed: set[str], wanted: list[str], feeds: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    tf = tensorflow()
    part = graph.to_graph_def(name for name in graph.nodes if name in needed)
    protobuf_io.gate("graphdef", "check_inference", part)
    with tf.Graph().as_default() as own:
        tf.import_graph_def(part, name="")
        with tf.compat.v1.Session(graph=own) as session:
            values = session.run(
                [f"{name}:0" for name in wanted], {f"{name}:0": value for name, value in feeds.items()}
            )
    return dict(zip(wanted, values, strict=True))
