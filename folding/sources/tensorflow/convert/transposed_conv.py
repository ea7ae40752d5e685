"""Transposed convolutions whose size is computed at run time, as one ConvTranspose with constant paddings.

Given:  y = Conv2DBackpropInput(sizes, w, x, strides s, SAME), size of y - s * size of x a constant
Result: y = ConvTranspose(x, w, strides s, pads)       zeros behind a kernel that is shorter than its step

tf2onnx computes paddings at run time, by a Slice and a Pad that no batch norm can be folded through. `mark`
decides on the graph of TensorFlow and leaves the paddings in an attribute, which `write` reads in tf2onnx.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from folding.sources.tensorflow.graph.static_shapes import StaticShapes
from folding.sources.tensorflow.graph.symbolic_sizes import SymbolicSizes
from folding.sources.tensorflow.graph.tf_graph import Node, TfGraph, data_inputs, dtype_of
from folding.sources.tensorflow.rewrite import channels_last

OPS = frozenset({"Conv2DBackpropInput", "Conv3DBackpropInputV2"})
PADS = "_bnfold_pads"
_INT32 = 3


@dataclass(frozen=True)
class Geometry:
    """By spatial dimension: paddings before and behind, and results that no input reaches."""

    before: list[int]
    behind: list[int]
    missing: list[int]


def mark(graph: TfGraph, shapes: StaticShapes, node: Node, *, at_run_time: bool) -> None:
    """Extend a kernel that is too short; leave the paddings at a node whose size is computed at run time."""
    found = geometry(graph, shapes, node)
    if found is None:
        return
    if any(found.missing):
        _extend_kernel(graph, node, found.missing)
    if at_run_time or node.attr["padding"].s == b"EXPLICIT":
        node.attr[PADS].list.i.extend([*found.before, *found.behind])


def geometry(graph: TfGraph, shapes: StaticShapes, node: Node) -> Geometry | None:
    """The constant paddings; None where they depend on the size, or TensorFlow would refuse the sizes."""
    sizes_ref, kernel_ref, data_ref = data_inputs(node)
    symbolic = SymbolicSizes(graph, shapes)
    kernel, data, sizes = shapes.of(kernel_ref), symbolic.dims(data_ref), symbolic.of(sizes_ref)
    if kernel is None or data is None or sizes is None or len(kernel) != len(data):
        return None
    rank = len(data)
    first = channels_last.is_channels_first(node)
    places = range(2, rank) if first else range(1, rank - 1)
    steps, spread, explicit = (
        list(node.attr[key].list.i) for key in ("strides", "dilations", "explicit_paddings")
    )
    spread = spread or [1] * rank
    shift = 0 if sizes.size == rank else places[0]  # sizes may be those of the spatial dimensions alone
    if sizes.size not in (rank, rank - 2):
        return None
    rows = []
    for index, place in enumerate(places):
        extent = kernel[index]
        size = sizes.reshape(-1)[place - shift]
        apart = size.plus(data[place].times(steps[place]), -1).known
        if extent is None or apart is None:
            return None
        span = (extent - 1) * spread[place] + 1
        padded = explicit[2 * place] if node.attr["padding"].s == b"EXPLICIT" else None
        row = _row(node.attr["padding"].s, steps[place], span, apart, padded)
        if row is None or (row[2] and spread[place] != 1):
            return None
        rows.append(row)
    before, behind, missing = (list(column) for column in zip(*rows, strict=True))
    return Geometry(before, behind, missing)


def _row(
    padding: bytes, step: int, span: int, apart: int, explicit: int | None
) -> tuple[int, int, int] | None:
    """Paddings before and behind, and missing results, where the size is `step * length + apart`."""
    surplus = span - step - apart  # results of the plain product beyond the size
    if padding == b"SAME" and -step < apart <= 0:
        before = max(surplus, 0) // 2
        return before, max(surplus, 0) - before, max(-surplus, 0)
    if padding == b"VALID" and -step < apart - span + 1 <= 0 and surplus <= 0:
        return 0, 0, -surplus
    if explicit is not None and explicit <= surplus:
        return explicit, surplus - explicit, 0
    return None


def _extend_kernel(graph: TfGraph, node: Node, missing: list[int]) -> None:
    held = graph.add("Const", f"{node.name}/zeros_behind").name
    pairs = [[0, count] for count in missing] + [[0, 0], [0, 0]]
    graph.set_constant(held, np.asarray(pairs, np.int32))
    inputs = [data_inputs(node)[1], held]
    node.input[1] = graph.add("Pad", f"{node.name}/kernel", inputs, T=dtype_of(node), Tpaddings=_INT32).name


def write(graph: Any, ops: Any) -> Any:
    """Have tf2onnx write the nodes that `mark` left paddings at; a rewriter of its own form."""
    for node in list(ops):
        pads = node.get_attr(PADS) if node.type in OPS else None
        if pads is not None:
            _write_one(graph, node, list(pads.ints))
    return graph.get_nodes()


def _write_one(graph: Any, node: Any, pads: list[int]) -> None:
    rank = len(pads) // 2 + 2
    first = node.get_attr_value("data_format", b"NHWC")[:2] == b"NC"
    spatial = slice(2, rank) if first else slice(1, rank - 1)
    lists = {key: list(node.get_attr_value(key, [1] * rank))[spatial] for key in ("strides", "dilations")}
    _, kernel, data, *bias = node.input  # tf2onnx has merged the bias already
    name, kind, outputs = node.name, graph.get_dtype(node.output[0]), list(node.output)
    held = graph.get_shape(kernel)
    channels = held[-2] if held is not None else -1
    graph.remove_node(name)
    if not first:
        order = [0, rank - 1, *range(1, rank - 1)]
        data = graph.make_node("Transpose", [data], attr={"perm": order}).output[0]
    turned = graph.make_node("Transpose", [kernel], attr={"perm": [rank - 1, rank - 2, *range(rank - 2)]})
    attributes = {**lists, "pads": pads}
    shape = [-1, channels, *[-1] * (rank - 2)]
    if first:
        graph.make_node("ConvTranspose", [data, turned.output[0], *bias], attr=attributes, name=name,
                        outputs=outputs, shapes=[shape], dtypes=[kind])  # fmt: skip
        return
    made = graph.make_node(
        "ConvTranspose", [data, turned.output[0], *bias], attr=attributes, shapes=[shape], dtypes=[kind]
    )
    graph.make_node("Transpose", [made.output[0]], attr={"perm": [0, *range(2, rank), 1]}, name=name,
                    outputs=outputs, shapes=[[-1, *[-1] * (rank - 2), channels]], dtypes=[kind])  # fmt: skip
