"""Dilated convolutions that older TensorFlow spells with SpaceToBatchND.

Given:  s = SpaceToBatchND(x, block, paddings);  c = Conv2D(s, w, VALID);  y = BatchToSpaceND(c, block, crops)
Result: y = Conv2D(x, w, dilations=block, explicit paddings = paddings - crops)

Both are the dilated convolution of x padded by `paddings`, of whose result `crops` are cut off: the first
`crops[i, 0]` results are those of the first as many padded positions. So only the difference counts, and it
is constant even where both are computed from the size of x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from folding.sources.tensorflow.graph.constant_eval import evaluate
from folding.sources.tensorflow.graph.symbolic_sizes import SymbolicSizes
from folding.sources.tensorflow.graph.tf_graph import Node, TfGraph, data_inputs, dtype_of, split

_CONVOLUTIONS = frozenset({"Conv2D", "DepthwiseConv2dNative", "Conv3D"})
_EXPLICIT = frozenset({"Conv2D", "DepthwiseConv2dNative"})  # Conv3D has no explicit paddings
_INT32 = 3


@dataclass(frozen=True)
class _Match:
    """The nodes of one occurrence; `expand` and `squeeze` in one dimension only."""

    before: Node
    expand: Node | None
    convolution: Node
    squeeze: Node | None
    after: Node


def rewrite(graph: TfGraph, sizes: SymbolicSizes) -> list[str]:
    """Rewrite every occurrence, in place. Returns the convolutions' names."""
    readers = graph.consumers()
    alias: dict[str, str] = {}
    done = []
    for node in list(graph.nodes.values()):
        found = _match(graph, node, readers) if node.op == "BatchToSpaceND" else None
        if found is None:
            continue
        geometry = _geometry(graph, found, sizes)
        if geometry is None:
            continue
        alias[node.name] = _dilate(graph, found, *geometry)
        done.append(found.convolution.name)
        for left in (found.before, found.after):  # with a fixed batch their shapes no longer fit
            del graph.nodes[left.name]
    graph.rewire(alias)
    return done


def _match(graph: TfGraph, after: Node, readers: dict[str, list[Node]]) -> _Match | None:
    def source(node: Node) -> Node | None:
        found = graph.nodes.get(split(data_inputs(node)[0])[0])
        return found if found is not None and len(readers.get(found.name, ())) == 1 else None

    node = source(after)
    squeeze = node if node is not None and node.op == "Squeeze" else None
    convolution = source(squeeze) if squeeze is not None else node
    if convolution is None or convolution.op not in _CONVOLUTIONS or not _is_plain(convolution):
        return None
    node = source(convolution)
    expand = node if squeeze is not None and node is not None and node.op == "ExpandDims" else None
    before = source(expand) if expand is not None else node
    if before is None or before.op != "SpaceToBatchND" or (squeeze is None) != (expand is None):
        return None
    if squeeze is not None and expand is not None and not _is_row(graph, expand, squeeze):
        return None
    return _Match(before, expand, convolution, squeeze, after)


def _is_plain(node: Node) -> bool:
    lists = [list(node.attr[key].list.i) for key in ("strides", "dilations") if key in node.attr]
    return node.attr["padding"].s == b"VALID" and all(n == 1 for held in lists for n in held)


def _is_row(graph: TfGraph, expand: Node, squeeze: Node) -> bool:
    """Both add and remove dimension 1 of a channels-last convolution."""
    axis = evaluate(graph, data_inputs(expand)[1])
    dropped = list(squeeze.attr["squeeze_dims"].list.i)
    return axis is not None and axis.item() in (1, -3) and dropped in ([1], [-3])


def _geometry(
    graph: TfGraph, found: _Match, sizes: SymbolicSizes
) -> tuple[list[int], list[tuple[int, int]]] | None:
    """Dilation and paddings of each dimension of the convolution; None where they are not constant."""
    rank = 5 if found.convolution.op == "Conv3D" else 4
    layout = found.convolution.attr["data_format"].s
    channel = 1 if layout.startswith(b"NC") else rank - 1
    if found.expand is not None and channel == 1:
        return None
    blocks = [evaluate(graph, data_inputs(node)[1]) for node in (found.before, found.after)]
    if any(block is None for block in blocks) or not np.array_equal(*blocks):  # type: ignore[arg-type]
        return None
    pads, crops = (sizes.of(data_inputs(node)[2]) for node in (found.before, found.after))
    if pads is None or crops is None or pads.shape != crops.shape or pads.shape[-1:] != (2,):
        return None
    dilations, paddings = [1] * rank, [(0, 0)] * rank
    first = 2 if found.expand is not None else 1
    for index, block in enumerate(np.asarray(blocks[0]).reshape(-1).tolist()):
        ends = [pads[index, side].plus(crops[index, side], -1).known for side in (0, 1)]
        if first + index >= rank or any(end is None or end < 0 for end in ends):
            return None
        dilations[first + index], paddings[first + index] = int(block), (ends[0] or 0, ends[1] or 0)
    if dilations[channel] != 1 or paddings[channel] != (0, 0):
        return None
    return dilations, paddings


def _dilate(graph: TfGraph, found: _Match, dilations: list[int], paddings: list[tuple[int, int]]) -> str:
    """Rewrite the convolution. Returns the reference of the result."""
    node, x = found.convolution, data_inputs(found.before)[0]
    node.attr["dilations"].list.i[:] = dilations
    padded = any(side for pair in paddings for side in pair)
    if padded and node.op in _EXPLICIT:
        node.attr["padding"].s = b"EXPLICIT"
        node.attr["explicit_paddings"].list.i[:] = [side for pair in paddings for side in pair]
    elif padded:
        held = graph.add("Const", f"{node.name}/paddings").name
        graph.set_constant(held, np.asarray(paddings, np.int32))
        x = graph.add("Pad", f"{node.name}/padded", [x, held], T=dtype_of(node), Tpaddings=_INT32).name
    (found.expand if found.expand is not None else node).input[0] = x
    return str(found.squeeze.name if found.squeeze is not None else node.name)
