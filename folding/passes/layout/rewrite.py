"""Carry out a choice of layouts: move operators, reconnect readers, place the Transposes that are left."""

from __future__ import annotations

import onnx_ir as ir

from folding.ir.edit import become_output, fresh_name, remove_if_unused
from folding.ir.shapes import inferred_dims, inferred_shape
from folding.passes.layout.permutable import Permutable, move, relax
from folding.passes.layout.permutation import Perm, compose, identity, inverse
from folding.passes.layout.regions import Demand, Region, Root, accepts


def rewrite(region: Region, found: list[Root], layout: dict[ir.Node, Perm]) -> None:
    """Give every operator its layout and every reader its value in the order that it reads."""
    nothing = identity(region.rank)
    stored: dict[ir.Value, Perm] = {}
    moves = []
    for root in found:
        home = layout[root.part.node] if root.part is not None else inverse(root.frame)
        stored[root.value] = compose(root.frame, home)
    for part in region.parts:
        perm = moves_by(region, part, layout)
        if perm != nothing:
            moves.append((part, perm))
    plans = [
        (root, demand, *_plan(root, demand, layout, stored), inferred_dims(demand.value) or [])
        for root in found
        for demand in root.demands
    ]
    for part, perm in moves:
        move(part, perm)
    copies: dict[tuple[ir.Value, Perm], ir.Value] = {}
    for root, demand, needed, relaxation, known in plans:
        if demand.user is not None:
            if relaxation is not None:
                relax(demand.user, relaxation, known)
            source = _in_order(root.value, needed, copies)
            demand.user.replace_input_with(demand.position, source)
    for root, demand, needed, _, _ in plans:
        if demand.user is None:
            _deliver(root.value, demand.value, needed, copies)
    for node in reversed(region.transposes):
        remove_if_unused(node)


def moves_by(region: Region, part: Permutable, layout: dict[ir.Node, Perm]) -> Perm:
    """How the node's values come to lie: each as transpose(value, perm)."""
    return compose(region.frames[part.node.outputs[part.outputs[0]]], layout[part.node])


def _plan(
    root: Root, demand: Demand, layout: dict[ir.Node, Perm], stored: dict[ir.Value, Perm]
) -> tuple[Perm, Perm | None]:
    """(order needed relative to the stored root, how a relaxed reader is told)."""
    home = layout[root.part.node] if root.part is not None else inverse(root.frame)
    if demand.part is not None:
        wanted, relaxation = layout[demand.part.node], None
    elif demand.user is not None and home != inverse(demand.frame) and accepts(demand, home):
        wanted, relaxation = home, compose(demand.frame, home)
    else:
        wanted, relaxation = inverse(demand.frame), None
    return compose(inverse(stored[root.value]), compose(root.frame, wanted)), relaxation


def _in_order(value: ir.Value, perm: Perm, copies: dict[tuple[ir.Value, Perm], ir.Value]) -> ir.Value:
    """The value itself, or the one Transpose of it into this order."""
    if perm == identity(len(perm)):
        return value
    key = (value, perm)
    if key not in copies:
        copies[key] = _transpose(value, perm)
    return copies[key]


def _transpose(value: ir.Value, perm: Perm) -> ir.Value:
    node = ir.Node("", "Transpose", [value], [ir.AttrInt64s("perm", list(perm))])
    result = node.outputs[0]
    result.type = value.type
    shape = inferred_shape(value)
    if shape is not None:
        result.shape = ir.Shape([shape[axis] for axis in perm])
    producer = value.producer()
    graph = producer.graph if producer is not None else value.graph
    assert isinstance(graph, ir.Graph)
    result.name = fresh_name(graph, f"{value.name}_transposed")
    if producer is not None:
        graph.insert_after(producer, node)
    else:
        graph.insert_before(graph[0], node)
    return result


def _deliver(
    root: ir.Value, output: ir.Value, perm: Perm, copies: dict[tuple[ir.Value, Perm], ir.Value]
) -> None:
    """Graph outputs keep name, order and type, whoever makes them now."""
    graph = output.graph
    assert isinstance(graph, ir.Graph)
    source = _in_order(root, perm, copies)
    if source is output:
        return
    if source.producer() is None or source.is_graph_output() or source.graph is not graph:
        source = _transpose(root, perm) if source is not root else _identity(root)
    name, declared, kind = output.name, output.shape, output.type
    if output is root and declared is not None:  # its shape has moved with it
        declared = ir.Shape([declared[axis] for axis in perm])
    output.shape = inferred_shape(output)
    for index, existing in enumerate(graph.outputs):
        if existing is output:
            graph.outputs[index] = source
    output.name = fresh_name(graph, f"{name}_stored")
    become_output(source, name, declared, kind)


def _identity(value: ir.Value) -> ir.Value:
    node = ir.Node("", "Identity", [value])
    node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
    producer = value.producer()
    graph = producer.graph if producer is not None else value.graph
    assert isinstance(graph, ir.Graph)
    if producer is not None:
        graph.insert_after(producer, node)
    else:
        graph.insert_before(graph[0], node)
    return node.outputs[0]
