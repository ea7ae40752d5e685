"""Equivalent executions of a graph that rounds inside: what enters each rounding step moved past it.

A quantizer swallows the last place of everything before it, so moving weights and inputs by one ulp (`noise`)
shows nothing; yet an average of quantized values often lies exactly between two steps, and another order of
summation, as runtimes choose it by optimization level, takes the other one. So each value is moved where it
is rounded: QuantizeLinear(x) becomes QuantizeLinear(x * (1 + d)), d = +-8 u of the dtype (what a sum of some
ten products may be off by), of random sign per node in one run and of the opposite sign in the next.
A Cast to a narrower float is such a step too, with d = +-1.5 u of the narrower one, enough to reach its
neighbour; weights that are only read through one are moved by that much, each element by itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from folding.ir.types import Feeds
from folding.verify.model import FLOATS, Loaded, variant
from folding.verify.noise.ulp_noise import neighbours

# To nearest only: Floor, Ceil and Cast jump at whole numbers, where values are often exact (indices).
ROUNDING = frozenset(("QuantizeLinear", "DynamicQuantizeLinear", "Round"))
STEP = 4.0  # in eps = 2 u
NARROWING = 0.75  # in eps of the narrower dtype: more than half a distance, less than two
EPS: dict[int, float] = {
    TensorProto.DOUBLE: 2.0**-52, TensorProto.FLOAT: 2.0**-23,
    TensorProto.FLOAT16: 2.0**-10, TensorProto.BFLOAT16: 2.0**-7,
}  # fmt: skip
MOVES = frozenset(("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"))


def rounding_perturbed(loaded: Loaded, rng: np.random.Generator) -> tuple[Loaded, ...]:
    """The graph with a factor before each rounding step of the main graph, moved one way and the other.

    Empty for a graph that has no such step.
    """
    if not any(rounds(node) or narrows_to(node) for node in loaded.proto.graph.node):
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
        kind = kinds.get(node.input[0]) if node.input else None
        if kind in FLOATS and (step := step_of(node, kind, loaded)):
            nodes.append(moved(proto.graph, copy, FLOATS[kind], sign * step))
        nodes.append(copy)
    if len(nodes) == len(proto.graph.node):
        return None
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return replace(loaded, proto=proto)


def rounds(node: onnx.NodeProto) -> bool:
    """Whether the node's output jumps where its input moves by an ulp."""
    return node.op_type in ROUNDING and len(node.input) > 0 and node.domain in ("", "ai.onnx")


def narrows_to(node: onnx.NodeProto) -> int | None:
    """The element type of a Cast to a float type that has a wider one; None for every other node."""
    if node.op_type != "Cast" or node.domain not in ("", "ai.onnx"):
        return None
    to = next((attribute.i for attribute in node.attribute if attribute.name == "to"), 0)
    return to if to in EPS and to != TensorProto.DOUBLE else None


def step_of(node: onnx.NodeProto, kind: int, loaded: Loaded) -> float:
    """How far, relatively, to move what a node reads; 0 where it does not round, or reads a weight."""
    if rounds(node):
        return STEP * EPS[kind]
    to = narrows_to(node)
    if to is None or EPS[to] <= EPS[kind] or node.input[0] in loaded.weights:
        return 0.0
    return NARROWING * EPS[to]


def perturbed_weights(loaded: Loaded, rng: np.random.Generator) -> Feeds:
    """The weights, each element at a neighbouring float: of the dtype in which it is computed with."""
    found = neighbours(loaded.weights, rng)
    for name, to in narrowed(loaded).items():
        array = loaded.weights[name]
        if array.dtype.kind == "f" and EPS[to] > float(np.finfo(array.dtype).eps):
            signs = rng.integers(0, 2, array.shape, np.int8) * 2 - 1
            found[name] = (array * (1 + NARROWING * EPS[to] * signs)).astype(array.dtype)
    return found


def narrowed(loaded: Loaded) -> dict[str, int]:
    """Weights that are read through a narrowing Cast only, and the type behind it."""
    nodes = loaded.proto.graph.node
    if not any(narrows_to(node) for node in nodes):
        return {}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def behind(name: str, depth: int = 4) -> int | None:
        kinds = set()
        for node in readers.get(name, []):
            to = narrows_to(node)
            moves = node.op_type in MOVES and node.input[0] == name and depth
            kinds.add(behind(node.output[0], depth - 1) if moves else to)
        return kinds.pop() if len(kinds) == 1 else None

    found = {name: behind(name) for name in loaded.weights}
    return {name: to for name, to in found.items() if to is not None}


def moved(
    graph: onnx.GraphProto, node: onnx.NodeProto, dtype: type[np.floating[Any]], step: float
) -> onnx.NodeProto:
    """A Mul that moves what the node reads; the node is made to read it."""
    name = f"{node.output[0]}/moved"
    graph.initializer.append(numpy_helper.from_array(np.asarray(1.0 + step, dtype), f"{name}/by"))
    mul = helper.make_node("Mul", [node.input[0], f"{name}/by"], [name])
    node.input[0] = name
    return mul


def element_types(loaded: Loaded) -> dict[str, int]:
    """Element types of inner values, as far as shape inference reaches."""
    return {name: found.elem_type for name, found in tensor_types(loaded).items()}


def tensor_types(loaded: Loaded) -> dict[str, onnx.TypeProto.Tensor]:
    """Element types and shapes of tensors, as far as shape inference reaches."""
    model = variant(loaded, (), {})
    try:
        graph = shape_inference.infer_shapes(model).graph
    except Exception:  # noqa: BLE001 - then what the file says is all there is
        graph = model.graph
    return {
        value.name: value.type.tensor_type
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.HasField("tensor_type")
    }
