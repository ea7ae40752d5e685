"""How far the order of summation can move a reduction, as nodes of the graph that measures noise.

A sum of n terms is n - 1 roundings, and each runtime takes its own order: a mean over the batch differs by
hundreds of units, where a variance of what cancels divides by almost nothing. The reach is the larger of

    sqrt(n) u sum |x_i|            roundings that are independent (N. J. Higham and T. Mary, A New Approach to
                                   Probabilistic Rounding Error Analysis, 2019; the tolerance's factor is 8)
    |sum - sum in float64|         roundings that are not: equal terms are all rounded the same way; of the
                                   runtime's own order, and of the plainest one, term after term
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from folding.verify.model import Loaded
from folding.verify.probes.input_ranges import stored_array

# Reduction -> operator that makes its terms from an element (None: the element itself).
TERMS: dict[str, str | None] = {
    "ReduceMean": None, "ReduceSum": None, "GlobalAveragePool": None, "ReduceL1": "Abs",
    "ReduceSumSquare": "Mul",
}  # fmt: skip
SIGNED = frozenset(op for op, terms in TERMS.items() if terms is None)
SUMS = frozenset((*TERMS, "ReduceL2"))
WIDE = frozenset(("ReduceMean", "ReduceSum", "ReduceSumSquare"))  # which the runtime has in float64
CUMSUM = 11  # first opset with a running sum
SUMMED = frozenset((TensorProto.FLOAT, TensorProto.DOUBLE))  # types of which the runtime has running sums


def reach_of_orders(
    loaded: Loaded, node: onnx.NodeProto, name: str, kind: int, unit: float, rank: int | None
) -> list[onnx.NodeProto]:
    """Return the nodes that compute `<name>/reach` of the reduction whose result is `<name>/exact`.

    node: the reduction. kind: its element type. unit: roundoff of it. rank: of its operand.
    """
    exact = f"{name}/exact"
    made, size = absolute_sum(node, name)
    for value, count in ((node.input[0], "all"), (exact, "left")):
        made.append(helper.make_node("Size", [value], [f"{name}/{count}"]))
        made.append(
            helper.make_node("Cast", [f"{name}/{count}"], [f"{name}/{count}/n"], to=TensorProto.DOUBLE)
        )
    made += [
        helper.make_node("Div", [f"{name}/all/n", f"{name}/left/n"], [f"{name}/terms/n"]),
        helper.make_node("Sqrt", [f"{name}/terms/n"], [f"{name}/root"]),
        constant(f"{name}/unit", np.float64(unit)),
        helper.make_node("Mul", [f"{name}/root", f"{name}/unit"], [f"{name}/rate"]),
        helper.make_node("Cast", [f"{name}/rate"], [f"{name}/rate/cast"], to=kind),
        helper.make_node("Mul", [size, f"{name}/rate/cast"], [f"{name}/independent"]),
    ]
    plain = term_after_term(loaded, node, name, kind, rank)
    own = [] if plain else own_order(node, name, kind)
    gaps = [f"{name}/own", f"{name}/plain"] if plain else [f"{name}/own"] if own else []
    return [*made, *plain, *own, helper.make_node("Max", [f"{name}/independent", *gaps], [f"{name}/reach"])]


def absolute_sum(node: onnx.NodeProto, name: str) -> tuple[list[onnx.NodeProto], str]:
    """Return the nodes that reduce the absolute operand, and the result's name."""
    if node.op_type not in SIGNED:
        return [], f"{name}/exact"
    twin = onnx.NodeProto()
    twin.CopyFrom(node)
    twin.name, twin.input[0], twin.output[0] = f"{name}/size", f"{name}/absolute", f"{name}/size"
    return [helper.make_node("Abs", [node.input[0]], [f"{name}/absolute"]), twin], f"{name}/size"


def term_after_term(
    loaded: Loaded, node: onnx.NodeProto, name: str, kind: int, rank: int | None
) -> list[onnx.NodeProto]:
    """Return the nodes of `<name>/own` and `<name>/plain`: how far two orders are from the sum in float64.

    Empty where that order is not known: unknown rank or axes, a norm, an element type without running sums.
    """
    opset = {entry.domain: entry.version for entry in loaded.proto.opset_import}.get("", 1)
    axes = reduced_axes(loaded, node, rank) if rank else None
    if axes is None or rank is None or node.op_type not in TERMS or kind not in SUMMED or opset < CUMSUM:
        return []
    kept = [axis for axis in range(rank) if axis not in axes]
    x, terms = node.input[0], TERMS[node.op_type]
    made: list[onnx.NodeProto] = []
    if terms is not None:
        made.append(helper.make_node(terms, [x, x] if terms == "Mul" else [x], [f"{name}/terms"]))
        x = f"{name}/terms"
    made += [
        helper.make_node("Transpose", [x], [f"{name}/turned"], perm=[*kept, *axes]),
        constant(f"{name}/flat", np.asarray([0] * len(kept) + [-1], np.int64)),
        helper.make_node("Reshape", [f"{name}/turned", f"{name}/flat"], [f"{name}/rows"]),
        helper.make_node("Cast", [f"{name}/rows"], [f"{name}/rows/wide"], to=TensorProto.DOUBLE),
        constant(f"{name}/axis", np.int64(len(kept))),
        constant(f"{name}/last", np.int64(-1)),
        helper.make_node("Cast", [f"{name}/exact"], [f"{name}/exact/wide"], to=TensorProto.DOUBLE),
        helper.make_node("Shape", [f"{name}/exact"], [f"{name}/shape"]),
    ]
    mean = node.op_type in ("ReduceMean", "GlobalAveragePool")
    for rows in (f"{name}/rows", f"{name}/rows/wide"):
        made += [
            helper.make_node("CumSum", [rows, f"{name}/axis"], [f"{rows}/running"]),
            helper.make_node("Gather", [f"{rows}/running", f"{name}/last"], [f"{rows}/end"], axis=len(kept)),
            helper.make_node("Cast", [f"{rows}/end"], [f"{rows}/sum"], to=TensorProto.DOUBLE),
            helper.make_node("Div", [f"{rows}/sum", f"{name}/terms/n"], [f"{rows}/mean"]),
            helper.make_node(
                "Reshape", [f"{rows}/{'mean' if mean else 'sum'}", f"{name}/shape"], [f"{rows}/all"]
            ),
        ]
    own = distance_nodes(name, "own", f"{name}/exact/wide", f"{name}/rows/wide/all", kind)
    return [*made, *own, *distance_nodes(name, "plain", f"{name}/rows/all", f"{name}/rows/wide/all", kind)]


def own_order(node: onnx.NodeProto, name: str, kind: int) -> list[onnx.NodeProto]:
    """Return the nodes of `<name>/own`: how far the result is from the same in float64."""
    if node.op_type not in WIDE:
        return []
    twin = onnx.NodeProto()
    twin.CopyFrom(node)
    twin.name, twin.input[0], twin.output[0] = f"{name}/wide", f"{name}/operand", f"{name}/wide"
    return [
        helper.make_node("Cast", [node.input[0]], [f"{name}/operand"], to=TensorProto.DOUBLE),
        twin,
        helper.make_node("Cast", [f"{name}/exact"], [f"{name}/exact/wide"], to=TensorProto.DOUBLE),
        *distance_nodes(name, "own", f"{name}/exact/wide", f"{name}/wide", kind),
    ]


def distance_nodes(name: str, gap: str, a: str, b: str, kind: int) -> list[onnx.NodeProto]:
    """Return the nodes that compute `<name>/<gap>` = |a - b|, cast to `kind`."""
    return [
        helper.make_node("Sub", [a, b], [f"{name}/{gap}/signed"]),
        helper.make_node("Abs", [f"{name}/{gap}/signed"], [f"{name}/{gap}/gap"]),
        helper.make_node("Cast", [f"{name}/{gap}/gap"], [f"{name}/{gap}"], to=kind),
    ]


def reduced_axes(loaded: Loaded, node: onnx.NodeProto, rank: int) -> list[int] | None:
    """Return the axes that a reduction takes, in order; None where they are computed at run time."""
    if node.op_type == "GlobalAveragePool":
        return list(range(2, rank))
    attributes = {a.name: a for a in node.attribute}
    found: Sequence[int] = attributes["axes"].ints if "axes" in attributes else ()
    if len(node.input) > 1 and node.input[1]:
        stored = stored_array(loaded, node.input[1])
        if stored is None:
            return None
        found = [int(axis) for axis in stored.ravel()]
    if not found and "noop_with_empty_axes" in attributes and attributes["noop_with_empty_axes"].i:
        return None
    return sorted({int(axis) % rank for axis in found}) or list(range(rank))


def constant(name: str, value: np.generic | np.ndarray) -> onnx.NodeProto:
    """Return a Constant node."""
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value)))
