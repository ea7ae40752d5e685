"""Regions of values that are one tensor up to the order of axes, and the orders asked of them.

Values are joined by permutable operators (same order) and by Transpose nodes (known order). Each value v
of a region has a frame f: transpose(v, f) is the region's canonical tensor. A layout L stores
transpose(canonical, L), that is transpose(v, f o L); v as it stands is layout inverse(f).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import onnx_ir as ir

from folding.ir.query import attribute, is_op, tensor
from folding.ir.shapes import inferred_dims, inferred_rank
from folding.passes.layout.permutable import Permutable, permutable, relaxed
from folding.passes.layout.permutation import Perm, compose, identity, inverse


@dataclass
class Region:
    """One region: its permutable operators, the Transpose nodes between them, and every value's frame."""

    rank: int
    parts: list[Permutable] = field(default_factory=list)
    transposes: list[ir.Node] = field(default_factory=list)
    frames: dict[ir.Value, Perm] = field(default_factory=dict)


@dataclass
class Survey:
    """All regions of one graph, and which operator moves with which."""

    parts: dict[ir.Node, Permutable]
    regions: list[Region]


def constant_values(graph: ir.Graph) -> set[ir.Value]:
    """Values that depend on initializers alone (those that nobody can override)."""
    found = {v for v in graph.initializers.values() if not v.is_graph_input()}
    for node in graph:
        if is_op(node, "Constant") or (
            node.inputs
            and node.domain in ("", "ai.onnx")
            and all(v is None or v in found for v in node.inputs)
        ):
            found.update(node.outputs)
    return found


def survey(graph: ir.Graph) -> Survey:
    """Find the regions that contain a Transpose; others have nothing to gain."""
    constants = constant_values(graph)

    def is_constant(value: ir.Value) -> bool:
        return value in constants or tensor(value) is not None

    parts: dict[ir.Node, Permutable] = {}
    transposes: list[ir.Node] = []
    for node in graph:
        if is_op(node, "Transpose") and node.inputs[0] is not None and node.inputs[0] not in constants:
            count = inferred_rank(node.inputs[0])
            if count is not None and sorted(perm_of(node)) == list(range(count)):  # else it cannot run
                transposes.append(node)
        elif node.outputs and node.outputs[0] not in constants:
            part = permutable(node, is_constant)
            if part is not None:
                parts[node] = part
    regions, seen = [], set[ir.Value]()
    links = _links(parts, transposes)
    for node in transposes:
        start = node.inputs[0]
        if start is not None and start not in seen:
            region = _grow(start, links, parts)
            seen.update(region.frames)
            regions.append(region)
    return Survey(parts, regions)


Links = dict[ir.Value, list[tuple[ir.Value, Perm | None, ir.Node]]]


def _links(parts: dict[ir.Node, Permutable], transposes: list[ir.Node]) -> Links:
    """value -> (neighbour, perm, node): None for the same order, else neighbour = transpose(value, perm)."""
    links: Links = {}
    for part in parts.values():
        values = carried(part)
        for value in values[1:]:
            links.setdefault(values[0], []).append((value, None, part.node))
            links.setdefault(value, []).append((values[0], None, part.node))
        if len(values) == 1:
            links.setdefault(values[0], [])
    for node in transposes:
        source, result = node.inputs[0], node.outputs[0]
        perm = perm_of(node)
        assert source is not None
        links.setdefault(source, []).append((result, perm, node))
        links.setdefault(result, []).append((source, inverse(perm), node))
    return links


def carried(part: Permutable) -> list[ir.Value]:
    """The values that share an operator's layout."""
    inputs = [part.node.inputs[position] for position in part.inputs]
    return [v for v in inputs if v is not None] + [part.node.outputs[position] for position in part.outputs]


def perm_of(node: ir.Node) -> Perm:
    """A Transpose's permutation; the default reverses."""
    count = inferred_rank(node.inputs[0]) or 0
    return tuple(attribute(node, "perm", list(range(count))[::-1]))


def _grow(start: ir.Value, links: Links, parts: dict[ir.Node, Permutable]) -> Region:
    region = Region(inferred_rank(start) or 0, frames={start: identity(inferred_rank(start) or 0)})
    stack, nodes = [start], dict[ir.Node, None]()
    conflicts: set[ir.Node] = set()
    while stack:
        value = stack.pop()
        for neighbour, perm, node in links.get(value, []):
            frame = region.frames[value]
            expected = frame if perm is None else compose(inverse(perm), frame)
            nodes[node] = None
            if neighbour not in region.frames:
                region.frames[neighbour] = expected
                stack.append(neighbour)
            elif region.frames[neighbour] != expected:
                conflicts.add(node)
    for node in nodes:
        if node in conflicts:
            continue
        if node in parts:
            region.parts.append(parts[node])
        else:
            region.transposes.append(node)
    return region


@dataclass
class Demand:
    """Who reads a root value, in the root's own axes: an operator that may move, or a fixed order."""

    part: Permutable | None
    frame: Perm  # of the value that is read
    user: ir.Node | None  # None: a graph output
    position: int
    value: ir.Value  # the value as it is read in the graph, behind its Transposes


@dataclass
class Root:
    """A value that no Transpose of the region makes, and all reads of it and of its transposed forms."""

    value: ir.Value
    frame: Perm
    part: Permutable | None  # the operator that makes it, if that may move
    demands: list[Demand] = field(default_factory=list)
    size: int = 1  # elements, dynamic dimensions taken as 1: only ratios matter
    transposes: int = 0  # of it, or of its transposed forms, as the graph stands


def roots(region: Region) -> list[Root]:
    """Every root with its demands, in a deterministic order."""
    moving = {part.node: part for part in region.parts}
    ours = set(region.transposes)
    found: dict[ir.Value, Root] = {}
    for value in region.frames:
        origin = value
        while (producer := origin.producer()) in ours and producer is not None:
            origin = producer.inputs[0]  # type: ignore[assignment]
        root = found.get(origin)
        if root is None:
            producer = origin.producer()
            part = moving.get(producer) if producer is not None else None
            root = found[origin] = Root(origin, region.frames[origin], part)
        root.size = max(root.size, _elements(value))
        root.transposes += value is not origin
        frame = region.frames[value]
        for user, position in value.uses():
            if user in ours:
                continue
            part = moving.get(user)
            if part is not None and position not in part.inputs:
                part = None
            root.demands.append(Demand(part, frame, user, position, value))
        if value.is_graph_output():
            root.demands.append(Demand(None, frame, None, 0, value))
    return list(found.values())


def _elements(value: ir.Value) -> int:
    size = 1
    for dim in inferred_dims(value) or []:
        size *= dim or 1
    return size


def fixed_layouts(found: list[Root]) -> list[Perm]:
    """Layouts that operators which cannot move ask for or deliver, the most frequent first."""
    counts: Counter[Perm] = Counter()
    for root in found:
        if root.part is None:
            counts[inverse(root.frame)] += 1
        for demand in root.demands:
            if demand.part is None:
                counts[inverse(demand.frame)] += 1
    return [layout for layout, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def accepts(demand: Demand, layout: Perm) -> bool:
    """Whether a reader that cannot move takes its value in this layout all the same."""
    if layout == inverse(demand.frame):
        return True
    if demand.user is None or demand.position != 0 or demand.user.graph is not demand.value.graph:
        return False
    return relaxed(demand.user, [compose(demand.frame, layout)])
