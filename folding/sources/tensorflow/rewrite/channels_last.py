"""Channels-first operations as channels-last ones between two transpositions.

Given:  y = Conv2D(x, w, data_format=NCHW)
Result: t = Transpose(x, [0, 2, 3, 1]);  u = Conv2D(t, w, data_format=NHWC);  y = Transpose(u, [0, 3, 1, 2])

TensorFlow's CPU kernels know channels-last data only, so the reference runs a channels-first graph in this
form. The converter gets transposed convolutions in it whose output size is computed at run time: tf2onnx
takes the second and third dimension for the spatial ones in either layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from folding.sources.tensorflow.graph.tf_graph import Node, TfGraph, data_inputs, dtype_of, join, split

_LAST = {b"NCHW": b"NHWC", b"NCDHW": b"NDHWC"}
# operation -> which input is the data; `sizes`: inputs that hold one number per dimension
_DATA = {
    "Conv2D": 0, "Conv3D": 0, "DepthwiseConv2dNative": 0, "Conv2DBackpropInput": 2,
    "Conv3DBackpropInputV2": 2, "MaxPool": 0, "MaxPoolV2": 0, "AvgPool": 0, "MaxPool3D": 0, "AvgPool3D": 0,
    "FusedBatchNorm": 0, "FusedBatchNormV2": 0, "FusedBatchNormV3": 0, "DepthToSpace": 0, "SpaceToDepth": 0,
}  # fmt: skip
_SIZES = {"Conv2DBackpropInput": (0,), "Conv3DBackpropInputV2": (0,), "MaxPoolV2": (1, 2)}
_LISTS = ("strides", "ksize", "dilations")
_INT32 = 3


def is_channels_first(node: Node) -> bool:
    """Whether the node's data has its channels in the second dimension."""
    return "data_format" in node.attr and node.attr["data_format"].s in _LAST


def is_bias_of_the_width(graph: TfGraph, node: Node) -> bool:
    """Whether the BiasAdd `node` adds along the last axis behind a channels-first convolution.

    Keras 3 makes such where the width equals the channels: it tells the layout from the shapes.
    """
    source = graph.nodes.get(split(data_inputs(node)[0])[0])
    if source is None or is_channels_first(node):
        return False
    if not source.op.endswith("PartitionedCall"):
        return is_channels_first(source)
    body = graph.library.get(source.attr["f"].func.name)  # Keras compiles convolutions of some ranks apart
    return body is not None and any(is_channels_first(each) for each in body.node_def)


def has_channels_first(graph: TfGraph) -> bool:
    """Whether any operation of the graph is channels-first."""
    return any(is_channels_first(node) for node in graph.nodes.values())


def rewrite(graph: TfGraph, wanted: Callable[[Node], bool] = is_channels_first) -> list[str]:
    """Rewrite, in place, every channels-first operation that `wanted` names. Returns the nodes' names."""
    alias: dict[str, str] = {}
    done = []
    for node in list(graph.nodes.values()):
        if not is_channels_first(node) or not wanted(node):
            continue
        if node.op in _DATA:
            alias.update(_between_transposes(graph, node))
            done.append(node.name)
        elif node.op == "BiasAdd":
            bias_along_channels(graph, node, rank=None)
            done.append(node.name)
    graph.rewire(alias)
    return done


def bias_along_channels(graph: TfGraph, node: Node, rank: int | None) -> None:
    """`BiasAdd(x, b, NCHW)` becomes `AddV2(x, Reshape(b, [-1, 1, ...]))`, `rank` being that of x.

    rank: None where it is unknown; the shape is then computed at run time.
    """
    x, bias = data_inputs(node)
    dtype, name = dtype_of(node), node.name
    if rank is not None:
        shape = _constant(graph, f"{name}/shape", [-1] + [1] * (rank - 2))
    else:
        dims = graph.add("Rank", f"{name}/rank", [x], T=dtype).name
        two, one = _scalar(graph, f"{name}/two", 2), _scalar(graph, f"{name}/one", 1)
        zero = _scalar(graph, f"{name}/zero", 0)
        count = graph.add("Sub", f"{name}/count", [dims, two], T=_INT32).name
        length = graph.add("ExpandDims", f"{name}/length", [count, zero], T=_INT32, Tdim=_INT32).name
        ones = graph.add("Fill", f"{name}/ones", [length, one], T=_INT32, index_type=_INT32).name
        first = _constant(graph, f"{name}/first", [-1])
        joined = graph.add("ConcatV2", f"{name}/shape", [first, ones, zero], T=_INT32, Tidx=_INT32)
        joined.attr["N"].i = 2
        shape = joined.name
    spread = graph.add("Reshape", f"{name}/along_channels", [bias, shape], T=dtype, Tshape=_INT32).name
    node.op = "AddV2"
    del node.input[:]
    node.input.extend([x, spread])
    node.attr.clear()
    node.attr["T"].type = dtype


def _between_transposes(graph: TfGraph, node: Node) -> dict[str, str]:
    """Returns alias of the outputs behind the first, which are one number per channel in either layout."""
    name, dtype = node.name, dtype_of(node)
    layout = node.attr["data_format"].s
    rank = len(layout)
    last, first = [0, *range(2, rank), 1], [0, rank - 1, *range(1, rank - 1)]
    inner = graph.add(node.op, f"{name}/channels_last")
    inner.input.extend(data_inputs(node))
    for key in node.attr:
        inner.attr[key].CopyFrom(node.attr[key])
    inner.attr["data_format"].s = _LAST[layout]
    for key in _LISTS:
        _permute_list(inner, key, last)
    _permute_pads(inner, last)
    data = _DATA[node.op]
    to_last = _constant(graph, f"{name}/to_channels_last", last)
    turned = graph.add("Transpose", f"{name}/x", [inner.input[data], to_last], T=dtype, Tperm=_INT32)
    inner.input[data] = turned.name
    for index in _SIZES.get(node.op, ()):
        inner.input[index] = _permuted_sizes(graph, f"{name}/size_{index}", inner.input[index], to_last)
    back = _constant(graph, f"{name}/to_channels_first", first)
    del node.input[:]
    node.op = "Transpose"
    node.input.extend([inner.name, back])
    node.attr.clear()
    node.attr["T"].type = dtype
    node.attr["Tperm"].type = _INT32
    return {join(name, index): join(inner.name, index) for index in range(1, 6)}


def _permuted_sizes(graph: TfGraph, name: str, ref: str, permutation: str) -> str:
    axis = _scalar(graph, f"{name}/axis", 0)
    return str(
        graph.add(
            "GatherV2",
            name,
            [ref, permutation, axis],
            Tparams=_INT32,
            Tindices=_INT32,
            Taxis=_INT32,
        ).name
    )


def _permute_list(node: Node, key: str, order: Iterable[int]) -> None:
    if key not in node.attr or not node.attr[key].list.i:
        return
    held = list(node.attr[key].list.i)
    del node.attr[key].list.i[:]
    node.attr[key].list.i.extend(held[place] for place in order)


def _permute_pads(node: Node, order: Iterable[int]) -> None:
    if "explicit_paddings" not in node.attr or not node.attr["explicit_paddings"].list.i:
        return
    held = list(node.attr["explicit_paddings"].list.i)
    del node.attr["explicit_paddings"].list.i[:]
    node.attr["explicit_paddings"].list.i.extend(n for p in order for n in held[2 * p : 2 * p + 2])


def _constant(graph: TfGraph, name: str, values: list[int]) -> str:
    added = graph.add("Const", name).name
    graph.set_constant(added, np.asarray(values, np.int32))
    return str(added)


def _scalar(graph: TfGraph, name: str, value: int) -> str:
    added = graph.add("Const", name).name
    graph.set_constant(added, np.asarray(value, np.int32))
    return str(added)
