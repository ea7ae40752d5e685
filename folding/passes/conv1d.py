"""Convolutions over one axis that are spelled as two-dimensional ones, as TensorFlow does.

Given:  y = Squeeze(Transpose(Conv(Transpose(Unsqueeze(x, a), p), W (O, I, 1, k)), q), b)
Result: y = Transpose(Conv(Transpose(x, p'), W (O, I, k)), q')          each Transpose only where needed
The added axis has length 1 everywhere, no padding and no stride of its own, so leaving it out is exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from folding.ir.edit import initializer, insert, replace
from folding.ir.query import attribute, axes_of, graph_of, is_op, only_user, tensor
from folding.ir.shapes import inferred_rank, inferred_shape
from folding.passes.base import Peephole

_PER_AXIS = ("kernel_shape", "strides", "dilations")


def _conv(node: ir.Node) -> bool:
    weight = tensor(node.inputs[1])
    if (
        inferred_rank(node.inputs[0]) != 4
        or weight is None
        or attribute(node, "auto_pad", "NOTSET") != "NOTSET"
    ):
        return False
    before = _added_axis(node.inputs[0])
    after = _removed_axis(node.outputs[0])
    if before is None or after is None or before[1] != after[1] or before[1] < 2:
        return False
    x, dropped, first = before
    result, _, second = after
    if not _trivial_along(node, dropped - 2, weight):
        return False
    source = _transposed(node, x, first, f"{x.name}_moved")
    narrow = _narrow(node, source, dropped, weight)
    replace(result, _transposed(node, narrow, second, f"{result.name}_moved"))
    return True


def _added_axis(value: ir.Value | None) -> tuple[ir.Value, int, list[int]] | None:
    """(x, place of the added axis, perm of x) for [Transpose of] Unsqueeze(x, one axis)."""
    node = value.producer() if value is not None else None
    perm = [0, 1, 2, 3]
    if node is not None and is_op(node, "Transpose"):
        perm = attribute(node, "perm", [3, 2, 1, 0])
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    if node is None or not is_op(node, "Unsqueeze") or node.inputs[0] is None:
        return None
    axes = axes_of(node)
    if axes is None or len(axes) != 1 or inferred_rank(node.inputs[0]) != 3:
        return None
    added = axes[0] % 4
    return node.inputs[0], perm.index(added), _without(perm, perm.index(added))


def _removed_axis(value: ir.Value) -> tuple[ir.Value, int, list[int]] | None:
    """(result, place of the removed axis, perm after it) for Squeeze of [Transpose of] the value."""
    node, perm = only_user(value), [0, 1, 2, 3]
    if node is not None and is_op(node, "Transpose"):
        perm = attribute(node, "perm", [3, 2, 1, 0])
        node = only_user(node.outputs[0])
    if node is None or not is_op(node, "Squeeze"):
        return None
    axes = axes_of(node)
    if axes is None or len(axes) != 1:
        return None
    place = axes[0] % 4
    return node.outputs[0], perm[place], _without(perm, place)


def _without(perm: Sequence[int], place: int) -> list[int]:
    """The permutation with one axis left out, the others renumbered."""
    gone = perm[place]
    return [axis - (axis > gone) for position, axis in enumerate(perm) if position != place]


def _trivial_along(node: ir.Node, axis: int, weight: ir.TensorProtocol) -> bool:
    """One tap, no padding, no stride along the spatial axis that goes."""
    pads = attribute(node, "pads", [0] * 4)
    strides = attribute(node, "strides", [1, 1])
    return weight.shape[axis + 2] == 1 and not pads[axis] and not pads[axis + 2] and strides[axis] == 1


def _transposed(node: ir.Node, value: ir.Value, perm: list[int], name: str) -> ir.Value:
    if perm == [0, 1, 2]:
        return value
    shape = inferred_shape(value)
    moved = None if shape is None else [shape[axis] for axis in perm]
    return insert(node, "Transpose", [value], {"perm": perm}, shape=moved, name=name)


def _narrow(node: ir.Node, x: ir.Value, dropped: int, weight: ir.TensorProtocol) -> ir.Value:
    """The same convolution over the one axis that is left."""
    graph, old = graph_of(node), node.inputs[1]
    assert old is not None
    alone = only_user(old) is node and old.is_initializer() and old.graph is graph
    name = old.name or "weight"
    new = initializer(graph, f"{name}_narrow", np.squeeze(weight.numpy(), dropped))
    attributes = {key: attribute(node, key) for key in node.attributes}
    axis = dropped - 2
    for key in _PER_AXIS:
        if key in attributes:
            attributes[key] = [attributes[key][1 - axis]]
    if "pads" in attributes:
        attributes["pads"] = [attributes["pads"][1 - axis], attributes["pads"][3 - axis]]
    shape = inferred_shape(node.outputs[0])
    left = None if shape is None else [dim for place, dim in enumerate(shape) if place != dropped]
    stem = node.outputs[0].name
    result = insert(node, "Conv", [x, new, *node.inputs[2:]], attributes, shape=left, name=f"{stem}_narrow")
    producer = result.producer()
    assert producer is not None
    producer.name = node.name
    if alone:
        node.replace_input_with(1, None)
        graph.initializers.pop(name)
        old.name = f"{name}_wide"
        new.name = name
    return result


RULES: tuple[tuple[str, Peephole], ...] = (("Conv", _conv),)
