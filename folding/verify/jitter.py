"""Equivalent executions of a graph that rounds inside: what enters each rounding step moved by one ulp.

A quantizer swallows the last place of everything before it, so moving weights and inputs by one ulp (`noise`)
shows nothing; yet an average of quantized values often lies exactly between two steps, and another order of
summation, as runtimes choose it by optimization level, takes the other one. So each value is moved where it
is rounded: QuantizeLinear(x) becomes QuantizeLinear(x * (1 + d)), d = +-8 u of the dtype (what a sum of some
ten products may be off by), of random sign per node in one run and of the opposite sign in the next.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from folding.verify.graphs import FLOATS, Loaded, variant

# To nearest only: Floor, Ceil and Cast jump at whole numbers, where values are often exact (indices).
ROUNDING = frozenset(("QuantizeLinear", "DynamicQuantizeLinear", "Round"))
STEP = 4.0  # in eps = 2 u


def jittered(loaded: Loaded, rng: np.random.Generator) -> tuple[Loaded, ...]:
    """The graph with a factor before each rounding step of the main graph, moved one way and the other.

    Empty for a graph that has no such step.
    """
    if not any(rounds(node) for node in loaded.proto.graph.node):
        return ()
    kinds = element_types(loaded)
    signs = rng.choice((-1.0, 1.0), len(loaded.proto.graph.node))
    made = (moved_graph(loaded, kinds, signs), moved_graph(loaded, kinds, -signs))
    return tuple(graph for graph in made if graph is not None)


def moved_graph(loaded: Loaded, kinds: dict[str, int], signs: np.ndarray) -> Loaded | None:
    """One of them. kinds: element types by name. signs: one per node."""
    proto = onnx.ModelProto()
    proto.CopyFrom(loaded.proto)
    nodes: list[onnx.NodeProto] = []
    for node, sign in zip(loaded.proto.graph.node, signs, strict=True):
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        kind = kinds.get(node.input[0]) if rounds(node) else None
        if kind in FLOATS:
            nodes.append(moved(proto.graph, copy, FLOATS[kind], sign))
        nodes.append(copy)
    if len(nodes) == len(proto.graph.node):
        return None
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return replace(loaded, proto=proto)


def rounds(node: onnx.NodeProto) -> bool:
    """Whether the node's output jumps where its input moves by an ulp."""
    return node.op_type in ROUNDING and len(node.input) > 0 and node.domain in ("", "ai.onnx")


def moved(
    graph: onnx.GraphProto, node: onnx.NodeProto, dtype: type[np.floating[Any]], sign: float
) -> onnx.NodeProto:
    """A Mul that moves what the node reads; the node is made to read it."""
    step = STEP * float(np.finfo(dtype).eps) * sign
    name = f"{node.output[0]}/moved"
    graph.initializer.append(numpy_helper.from_array(np.asarray(1.0 + step, dtype), f"{name}/by"))
    mul = helper.make_node("Mul", [node.input[0], f"{name}/by"], [name])
    node.input[0] = name
    return mul


def element_types(loaded: Loaded) -> dict[str, int]:
    """Element types of inner values, as far as shape inference reaches."""
    model = variant(loaded, (), {})
    try:
        graph = shape_inference.infer_shapes(model).graph
    except Exception:  # noqa: BLE001 - then what the file says is all there is
        graph = model.graph
    return {
        value.name: value.type.tensor_type.elem_type
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.HasField("tensor_type")
    }
