"""Both sides of a `GraphMap` as one graph of boxes: what `layered` lays out.

A batch norm that its framework spelled as fifteen nodes is one box, and what is computed from constants alone
is part of the box that reads it, as weights are: what is left is what a person would draw. A box is named by
its last row, its *head*; only the head is read from outside, so boxes never make a circle.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from folding.report import GraphMap, GraphSide

Edge = tuple[int, int]


@dataclass
class MergedGraph:
    """Boxes are numbered in the order of their heads, so that every edge goes from a smaller number up.

    `box[row]` is the box that a row is in; `there[side]` the boxes that have a node on that side;
    `edges[side]` its edges; `fed` tells whether a graph input reaches a box on either side.
    """

    box: list[int]
    count: int
    there: tuple[set[int], set[int]]
    edges: tuple[set[Edge], set[Edge]]
    fed: list[bool] = field(default_factory=list)


def merge(graphs: GraphMap) -> MergedGraph:
    """The boxes of both sides and the edges between them."""
    sides = (graphs.before, graphs.after)
    rows = tuple(_rows(graphs, which) for which in (0, 1))
    fed = _fed(graphs, sides, rows)
    head = heads(graphs, sides, rows, fed)
    number = {row: i for i, row in enumerate(sorted(set(head)))}
    box = [number[row] for row in head]
    there: tuple[set[int], set[int]] = (set(), set())
    found: tuple[set[Edge], set[Edge]] = (set(), set())
    for which, side in enumerate(sides):
        there[which].update(box[row] for row in rows[which])
        for node, inputs in enumerate(side.inputs):
            reader = box[rows[which][node]]
            found[which].update((box[rows[which][source]], reader) for source in inputs)
        found[which].difference_update([edge for edge in found[which] if edge[0] == edge[1]])
    reached = [False] * len(number)
    for row, is_fed in enumerate(fed):
        reached[box[row]] |= is_fed
    return MergedGraph(box, len(number), there, found, reached)


def _rows(graphs: GraphMap, which: int) -> list[int]:
    """Row of each node of one side, in the order of its nodes."""
    place = {pair[which]: row for row, pair in enumerate(graphs.rows) if pair[which] >= 0}
    return [place[node] for node in range(len(place))]


def _fed(graphs: GraphMap, sides: tuple[GraphSide, GraphSide], rows: tuple[list[int], ...]) -> list[bool]:
    """For each row whether a graph input reaches it; what is left is computed from constants."""
    found = [False] * len(graphs.rows)
    for which, side in enumerate(sides):
        row = rows[which]
        for node, inputs in enumerate(side.inputs):
            is_input = graphs.op_types[side.ops[node]] == "input"
            if is_input or any(found[row[source]] for source in inputs):
                found[row[node]] = True
    return found


def heads(
    graphs: GraphMap,
    sides: tuple[GraphSide, GraphSide],
    rows: tuple[list[int], ...],
    fed: list[bool],
) -> list[int]:
    """For each row the one that stands for it: a batch norm's last node, or the reader of a constant."""
    readers: list[list[int]] = [[] for _ in graphs.rows]
    for which, side in enumerate(sides):
        for node, inputs in enumerate(side.inputs):
            for source in inputs:
                readers[rows[which][source]].append(rows[which][node])
    last = {rows[0][node]: rows[0][max(site.before)] for site in graphs.sites for node in site.before}
    head = list(range(len(graphs.rows)))
    for row in reversed(head[:]):
        above = {head[reader] for reader in readers[row]}
        if len(above) != 1:
            continue
        (only,) = above
        # Inputs and outputs are drawn whatever reads them.
        if (not fed[row] or (row in last and last[row] == only)) and not _is_port(graphs, only):
            head[row] = only
    return head


def _is_port(graphs: GraphMap, row: int) -> bool:
    for which, node in enumerate(graphs.rows[row]):
        side = graphs.after if which else graphs.before
        if node >= 0 and graphs.op_types[side.ops[node]] == "output":
            return True
    return False
