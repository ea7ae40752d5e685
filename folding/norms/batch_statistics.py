"""Batch norm on the batch's own moments: found so that it can be reported, and recalibrated when asked.

Given:  mean = ReduceMean(x), variance = ReduceMean((x - mean)^2) over every axis but the channels', the batch
        included, and y = (x - mean) / sqrt(variance + epsilon) * gamma + beta in any arrangement
Result: a norm without affine (reason `batch_statistics`), whose `nodes` are all that lies between x and y.

Statistics that leave the batch axis out (layer, instance, group norm) are none of ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.ir import shapes
from folding.norms.base import BatchNorm
from folding.norms.constants import Constants, stored
from folding.norms.naming import layer_name

SPELLING = "batch_statistics"
WHY = ("batch_statistics", "it normalizes with the mean and variance of its own batch, computed at run time")
_MAX_NODES = 80
_REDUCTIONS = ("ReduceMean", "ReduceSum", "ReduceSumSquare")
_LAYOUT = ("Squeeze", "Unsqueeze", "Reshape", "Identity", "Cast", "Expand")
_ARITHMETIC = ("Sub", "Mul", "Add", "Div", "Sqrt", "Reciprocal", "Pow", "Neg", "BatchNormalization")
_COUNTING = ("Shape", "Gather", "ReduceProd", "Slice")  # the number of elements, for Bessel's correction


@dataclass(eq=False)
class Region:
    """Everything computed from x and constants alone, by operators that a norm is made of."""

    x: ir.Value
    axis: int
    nodes: dict[ir.Node, None] = field(default_factory=dict)
    wide: set[ir.Value] = field(default_factory=set)  # values of x's own shape
    narrow: set[ir.Value] = field(default_factory=set)  # per channel, or scalar


def find(nodes: list[ir.Node], constants: Constants) -> list[BatchNorm]:
    """Norms on batch moments, in graph order."""
    norms: list[BatchNorm] = []
    taken: set[ir.Node] = set()
    for node in nodes:
        if node in taken or not g.is_op(node, "ReduceMean") or node.inputs[0] is None:
            continue
        axis = _channel_axis(node, constants)
        if axis is None:
            continue
        region = _region(node.inputs[0], axis, constants)
        for norm in _records(region, constants):
            taken.update(norm.nodes)
            norms.append(norm)
    return norms


def moments_of(node: ir.Node, constants: Constants) -> tuple[ir.Node, ...]:
    """Of a BatchNormalization with run-time statistics: the nodes that compute them from its own input."""
    x = node.inputs[0]
    assert x is not None
    work = [value for value in node.inputs[3:5] if value is not None]
    found: dict[ir.Node, None] = {}
    while work:
        value = work.pop()
        producer = value.producer()
        if value is x or producer is None or producer in found or constants.is_const(value):
            continue
        if producer.op_type not in (*_REDUCTIONS, *_LAYOUT, *_ARITHMETIC, *_COUNTING):
            return ()
        found[producer] = None
        if len(found) > _MAX_NODES:
            return ()
        work.extend(item for item in producer.inputs if item is not None)
    return tuple(found) if any(x in item.inputs for item in found) else ()


def _channel_axis(node: ir.Node, constants: Constants) -> int | None:
    """The one axis that the reduction leaves, if it takes all others, the batch among them."""
    rank = shapes.rank(node.inputs[0])
    given = g.input_at(node, 1)
    if rank is None or rank < 2 or (given is not None and not constants.is_const(given)):
        return None
    axes = g.attr_ints(node, "axes") if given is None else constants.ints(given)
    left = set(range(rank)) - {axis % rank for axis in axes or range(rank)}
    return left.pop() if len(left) == 1 and 0 not in left else None


def _region(x: ir.Value, axis: int, constants: Constants) -> Region:
    region = Region(x, axis, wide={x})
    work = [use.node for use in x.uses()]
    while work and len(region.nodes) < _MAX_NODES:
        node = work.pop(0)
        if node in region.nodes or not _joins(node, region, constants):
            continue
        region.nodes[node] = None
        target = region.wide if _is_wide(node.outputs[0], x) else region.narrow
        target.add(node.outputs[0])
        work += [use.node for use in node.outputs[0].uses()]
    return region


def _is_wide(value: ir.Value, x: ir.Value) -> bool:
    """Whether the value has an element for each of x's, rather than one per channel."""
    shape = shapes.dims(value)
    return shape is None or (len(shape) == shapes.rank(x) and sum(dim != 1 for dim in shape) > 1)


def _joins(node: ir.Node, region: Region, constants: Constants) -> bool:
    known = region.wide | region.narrow
    inputs = [value for value in node.inputs if value is not None]
    if not all(value in known or constants.is_const(value) for value in inputs):
        return False
    if g.is_op(node, *_REDUCTIONS):
        return _channel_axis(node, constants) == region.axis
    if g.is_op(node, *_ARITHMETIC):
        # x op x of different values would be a residual sum, not a norm; squares are the same value twice
        wide = {value for value in inputs if value in region.wide}
        return len(wide) <= 1
    return g.is_op(node, *_LAYOUT, *_COUNTING) and inputs[0] not in region.wide - {region.x}


def _records(region: Region, constants: Constants) -> list[BatchNorm]:
    """One norm per value that leaves the region; several may share their moments."""
    exits = [node.outputs[0] for node in region.nodes if _leaves(node.outputs[0], region)]
    if not exits or not all(value in region.wide for value in exits):
        return []
    norms = []
    for value in exits:
        own = _between(region, value)
        if any(other is not value and other.producer() in own for other in exits):
            return []
        norm = _record(region, value, own, constants)
        if norm is not None:
            norms.append(norm)
    return norms


def _leaves(value: ir.Value, region: Region) -> bool:
    return value.is_graph_output() or any(use.node not in region.nodes for use in value.uses())


def _between(region: Region, value: ir.Value) -> dict[ir.Node, None]:
    """Nodes of the region that `value` is computed by, in the region's order."""
    found: set[ir.Node] = set()
    work: list[ir.Value | None] = [value]
    while work:
        item = work.pop()
        node = None if item is None else item.producer()
        if node is not None and node in region.nodes and node not in found:
            found.add(node)
            work.extend(node.inputs)
    return {node: None for node in region.nodes if node in found}


def _record(
    region: Region, value: ir.Value, nodes: dict[ir.Node, None], constants: Constants
) -> BatchNorm | None:
    roots = [node for node in nodes if g.is_op(node, "Sqrt", "Pow", "BatchNormalization")]
    last = value.producer()
    if not roots or last is None:
        return None
    values = _parameters(region, nodes, constants)
    arrays = {role: stored(leaf).reshape(-1) for role, leaf in values.items()}
    return BatchNorm(
        name=layer_name(values.values(), last, value),
        spelling=SPELLING,
        input=region.x,
        output=value,
        nodes=tuple(nodes),
        moving_mean=None,
        moving_variance=None,
        gamma=arrays.get("gamma"),
        beta=arrays.get("beta"),
        epsilon=_epsilon(roots, constants),
        channel_axis=region.axis,
        affine=None,
        why_not=WHY,
        variables={role: leaf.name for role, leaf in values.items() if leaf.name},
    )


def _parameters(region: Region, nodes: dict[ir.Node, None], constants: Constants) -> dict[str, ir.Value]:
    """gamma multiplies, beta is added: vectors as long as there are channels."""
    shape = shapes.dims(region.x)
    channels = None if shape is None else shape[region.axis]
    roles: dict[str, ir.Value] = {}
    for node in nodes:
        if not g.is_op(node, "Mul", "Div", "Add", "Sub"):
            continue
        for value in node.inputs:
            if value is None or not constants.is_const(value):
                continue
            size = int(np.prod(constants.shape(value) or (1,)))
            leaves = constants.leaves(value)
            if size == channels and len(leaves) >= 1:
                roles.setdefault("gamma" if g.is_op(node, "Mul", "Div") else "beta", leaves[0])
    return roles


def _epsilon(roots: list[ir.Node], constants: Constants) -> float | None:
    for root in roots:
        value = root.inputs[0]
        node = None if value is None else value.producer()
        if node is None or not g.is_op(node, "Add"):
            continue
        for item in node.inputs:
            if item is not None and constants.is_const(item):
                number = constants.evaluate(item)
                if number.size == 1:
                    return float(number.reshape(()))
    return None
