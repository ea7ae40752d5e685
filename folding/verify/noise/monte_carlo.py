"""Monte-Carlo arithmetic: the result of every operator moved by up to one unit in the last place.

Moving only weights and inputs misses what an operator amplifies further in: a logarithm of a value that is
almost zero because two others cancelled moves by much when *they* are rounded once more. So each float result
`y` of an operator that rounds becomes `y * r`, r a random factor in [1 - 2 u, 1 + 2 u] for every element.
Source: D. S. Parker, Monte Carlo Arithmetic, 1997.

Results that no rounding touches stay: movements, maxima, step functions, and what depends on shapes alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper

from folding.verify.bounds import EXACT_RESULTS
from folding.verify.compare.graph_stream import RANDOM
from folding.verify.model import Loaded, live_values
from folding.verify.noise.rounding_perturbation import EPS, element_types

# Float types for which the runtime draws random numbers by itself; for the others by a cast.
DRAWN = frozenset((TensorProto.FLOAT, TensorProto.DOUBLE))
CAST = frozenset((TensorProto.FLOAT16,))


def monte_carlo(loaded: Loaded, rng: np.random.Generator) -> Loaded:
    """Return the graph with a random factor behind every operator of the main graph that rounds."""
    kinds, live = element_types(loaded), live_values(loaded)
    proto = onnx.ModelProto()
    proto.CopyFrom(loaded.proto)
    nodes: list[onnx.NodeProto] = []
    for node in loaded.proto.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        nodes.append(copy)
        if rounds(node):
            for i, name in enumerate(node.output):
                if name in live and kinds.get(name) in DRAWN | CAST:
                    nodes += moved_result(copy, i, kinds[name], rng)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return replace(loaded, proto=proto)


def rounds(node: onnx.NodeProto) -> bool:
    """Whether the node's results are rounded."""
    standard = node.domain in ("", "ai.onnx")
    return not standard or node.op_type not in EXACT_RESULTS | RANDOM


def moved_result(
    node: onnx.NodeProto, index: int, kind: int, rng: np.random.Generator
) -> list[onnx.NodeProto]:
    """Return the nodes that draw a factor and multiply by it; the node's own result gets another name."""
    name = node.output[index]
    exact, factor = f"{name}/exact", f"{name}/factor"
    node.output[index] = exact
    seed = float(rng.integers(1, 1 << 24))
    step = EPS[kind]
    drawn = kind if kind in DRAWN else TensorProto.FLOAT
    draw = helper.make_node("RandomUniformLike", [exact], [factor], dtype=drawn, seed=seed)
    draw.attribute.extend(
        helper.make_attribute(side, limit) for side, limit in (("low", 1.0 - step), ("high", 1.0 + step))
    )
    made = [draw]
    if drawn != kind:
        made.append(helper.make_node("Cast", [factor], [f"{factor}/cast"], to=kind))
        factor = f"{factor}/cast"
    return [*made, helper.make_node("Mul", [exact, factor], [name])]
