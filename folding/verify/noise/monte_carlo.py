"""Monte-Carlo arithmetic: the result of every operator moved by up to one unit in the last place.

Moving only weights and inputs misses what an operator amplifies further in: a logarithm of a value that is
almost zero because two others cancelled moves by much when *they* are rounded once more. So each float result
`y` of an operator that rounds becomes `y * r`, r a random factor in [1 - 2 u, 1 + 2 u] for every element.
Source: D. S. Parker, Monte Carlo Arithmetic, 1997.

A sum of n terms is n - 1 roundings, not one: `summation` moves the results of reductions further.

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
from folding.verify.noise.rounding_perturbation import EPS, tensor_types
from folding.verify.noise.summation import SUMS, reach_of_orders

# Float types for which the runtime draws random numbers by itself; for the others by a cast.
DRAWN = frozenset((TensorProto.FLOAT, TensorProto.DOUBLE))
CAST = frozenset((TensorProto.FLOAT16,))


def monte_carlo(loaded: Loaded, rng: np.random.Generator) -> Loaded:
    """Return the graph with a random factor behind every operator of the main graph that rounds."""
    types, live = tensor_types(loaded), live_values(loaded)
    kinds = {name: found.elem_type for name, found in types.items()}
    ranks = {name: len(found.shape.dim) for name, found in types.items() if found.HasField("shape")}
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
                    nodes += moved_result(
                        loaded, copy, i, kinds[name], ranks.get(next(iter(node.input), "")), rng
                    )
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return replace(loaded, proto=proto)


def rounds(node: onnx.NodeProto) -> bool:
    """Whether the node's results are rounded."""
    standard = node.domain in ("", "ai.onnx")
    reduced = any(a.name == "reduction" and a.s not in (b"", b"none") for a in node.attribute)
    return not standard or reduced or node.op_type not in EXACT_RESULTS | RANDOM


def moved_result(
    loaded: Loaded,
    node: onnx.NodeProto,
    index: int,
    kind: int,
    rank: int | None,
    rng: np.random.Generator,
) -> list[onnx.NodeProto]:
    """Return the nodes that draw a factor and multiply by it; the node's own result gets another name.

    rank: of what the node reads, None where it is not known.
    """
    name = node.output[index]
    exact = f"{name}/exact"
    node.output[index] = exact
    made, factor = drawn(exact, f"{name}/factor", kind, (1.0 - EPS[kind], 1.0 + EPS[kind]), rng)
    if node.op_type not in SUMS:
        return [*made, helper.make_node("Mul", [exact, factor], [name])]
    made.append(helper.make_node("Mul", [exact, factor], [f"{name}/once"]))
    draws, shift = drawn(exact, f"{name}/order", kind, (-1.0, 1.0), rng)
    reach = reach_of_orders(loaded, node, name, kind, EPS[kind] / 2, rank)
    made += [*draws, *reach, helper.make_node("Mul", [f"{name}/reach", shift], [f"{name}/moved"])]
    return [*made, helper.make_node("Add", [f"{name}/once", f"{name}/moved"], [name])]


def drawn(
    like: str, name: str, kind: int, limits: tuple[float, float], rng: np.random.Generator
) -> tuple[list[onnx.NodeProto], str]:
    """Return the nodes that draw a random number for each element of `like`, and the result's name."""
    own = kind if kind in DRAWN else TensorProto.FLOAT
    draw = helper.make_node(
        "RandomUniformLike", [like], [name], dtype=own, seed=float(rng.integers(1, 1 << 24))
    )
    draw.attribute.extend(
        helper.make_attribute(side, limit) for side, limit in zip(("low", "high"), limits, strict=True)
    )
    if own == kind:
        return [draw], name
    return [draw, helper.make_node("Cast", [name], [f"{name}/cast"], to=kind)], f"{name}/cast"
