"""Layers and order of two aligned graphs drawn as one: each box gets one place, alike on both sides.

What is laid out is the merged graph of both sides. The steps are those of Sugiyama, Tagawa and Toda (1981): a
layer for each box, a *trunk* of bends for each value that lives longer than one layer, and an
order within each layer that keeps crossings few. Places across are the business of `placing`.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field

from folding.report import GraphMap
from service.web.graph import coordinates, merge_graphs
from service.web.graph.items import Items

BENDS = 4  # bends for each box at most, on the average; the longest values are drawn broken above it
NEAR = 4  # layers that a value may live in any case
SWEEPS = 6  # passes over the layers; more of them change little
LOOK = 64  # boxes that the way around a removed node is searched among

Edge = tuple[int, int]


@dataclass
class Layout:
    """Where everything is, in pixels across and in layers down; `layer`, `x` and `trunk` go by boxes.

    `box[row]` is the box that draws a row. `trunk[box]` are the bends of what it computes, one for each layer
    below it; an edge reaches its reader from the bend of the layer above it. `around` are edges of a side
    that pass through the places of boxes which only the other side has; `far` those too long to be drawn.
    """

    box: list[int]
    layer: list[int]
    x: list[int]
    width: int
    trunk: dict[int, list[int]] = field(default_factory=dict)
    around: tuple[dict[Edge, list[int]], dict[Edge, list[int]]] = field(default_factory=lambda: ({}, {}))
    far: set[Edge] = field(default_factory=set)

    def to_json(self) -> dict[str, object]:
        """As the page's script wants it."""
        ways = [[[*edge, *boxes] for edge, boxes in side.items()] for side in self.around]
        return {
            "box": self.box,
            "layer": self.layer,
            "x": self.x,
            "width": self.width,
            "trunk": self.trunk,
            "around": ways,
            "far": sorted(self.far),
        }


def layout(graphs: GraphMap) -> Layout:
    """The layout of both sides; linear but for sorting within layers."""
    whole = merge_graphs.merge(graphs)
    left, right = whole.edges
    around = (ways_around(whole, 0), ways_around(whole, 1))
    layer = layers(whole.count, sorted(left | right), whole.fed)
    short = sorted((left - around[0].keys()) | (right - around[1].keys()))
    far = too_far(short, layer)
    items = build(layer, [edge for edge in short if edge not in far])
    order(items)
    places, width = coordinates.place(items)
    trunk = {box: [round(places[bend]) for bend in bends] for box, bends in items.trunk.items()}
    across = [round(x) for x in places[: whole.count]]
    return Layout(whole.box, layer, across, round(width), trunk, around, far)


def ways_around(whole: merge_graphs.MergedGraph, which: int) -> dict[Edge, list[int]]:
    """Edges of one side that have on the other one a way through boxes which this side lacks.

    Conv to Relu, where a batch norm went from between: the line runs through the empty place, not around it.
    """
    sources: dict[int, list[int]] = {}
    for source, reader in sorted(whole.edges[1 - which]):
        sources.setdefault(reader, []).append(source)
    found = {}
    for start, end in whole.edges[which] - whole.edges[1 - which]:
        way = _way(sources, whole.there[which], start, end)
        if way:
            found[start, end] = way
    return found


def _way(sources: dict[int, list[int]], there: set[int], start: int, end: int) -> list[int]:
    """Boxes between `start` and `end`, from the top; empty when there is no such way nearby."""
    after: dict[int, int] = {}
    queue = [end]
    for at in queue:
        for above in sources.get(at, ()):
            if above == start and at != end:
                way = [at]
                while after[way[-1]] != end:
                    way.append(after[way[-1]])
                return way
            if above > start and above not in there and above not in after and len(queue) < LOOK:
                after[above] = at
                queue.append(above)
    return []


def layers(count: int, ordered: list[Edge], fed: list[bool]) -> list[int]:
    """The longest way from the top; what is computed from constants stands right above its first reader."""
    layer = [0] * count
    for source, reader in ordered:  # sources ascend, so a source's own layer is final
        if fed[source]:
            layer[reader] = max(layer[reader], layer[source] + 1)
    nearest: dict[int, int] = {}
    loose: list[Edge] = [edge for edge in ordered if not fed[edge[0]]]
    for source, reader in reversed(loose):
        at = nearest.get(reader, layer[reader]) if not fed[reader] else layer[reader]
        nearest[source] = min(nearest.get(source, at - 1), at - 1)
    for row, at in nearest.items():
        layer[row] = at
    top = min(layer, default=0)  # constants above the first layer push everything down
    return [at - top for at in layer]


def too_far(ordered: list[Edge], layer: list[int]) -> set[Edge]:
    """Edges that are left out so that bends stay within `BENDS` for each row."""
    limit = max(layer, default=0) + 1
    while limit > NEAR:
        longest: dict[int, int] = {}
        for source, reader in ordered:
            span = layer[reader] - layer[source]
            if span <= limit:
                longest[source] = max(longest.get(source, 0), span)
        if sum(longest.values()) <= BENDS * len(layer) + 1000:
            break
        limit //= 2
    return {edge for edge in ordered if layer[edge[1]] - layer[edge[0]] > limit}


def build(layer: list[int], ordered: list[Edge]) -> Items:
    """Items in their layers, each layer in the order in which their values are first computed."""
    count = len(layer)
    items = Items(
        count, [[] for _ in range(max(layer, default=-1) + 1)], [[] for _ in layer], [[] for _ in layer], {}
    )
    last: dict[int, int] = {}
    for source, reader in ordered:
        last[source] = max(last.get(source, 0), layer[reader])
    for row in range(count):
        items.layers[layer[row]].append(row)
        above = row
        for at in range(layer[row] + 1, last.get(row, 0)):
            bend = len(items.up)
            items.up.append([above])
            items.down.append([])
            items.down[above].append(bend)
            items.trunk.setdefault(row, []).append(bend)
            items.layers[at].append(bend)
            above = bend
    for source, reader in ordered:
        span = layer[reader] - layer[source]
        above = source if span == 1 else items.trunk[source][span - 2]
        items.up[reader].append(above)
        items.down[above].append(reader)
    return items


def order(items: Items) -> None:
    """Sort each layer by the mean place of its neighbours, down and up in turn; the best order stays."""
    best, fewest = [list(layer) for layer in items.layers], crossings(items)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        down = sweep % 2 == 0
        for at in range(len(items.layers)) if down else reversed(range(len(items.layers))):
            _sort(items, at, at - 1 if down else at + 1, items.up if down else items.down)
        now = crossings(items)
        if now < fewest:
            best, fewest = [list(layer) for layer in items.layers], now
    items.layers[:] = best


def _sort(items: Items, at: int, beside: int, near: list[list[int]]) -> None:
    layer = items.layers[at]
    if len(layer) < 2 or not 0 <= beside < len(items.layers):
        return
    place = {item: index for index, item in enumerate(items.layers[beside])}
    weight = {}
    for index, item in enumerate(layer):
        around = [place[other] for other in near[item]]
        weight[item] = sum(around) / len(around) if around else float(index)
    layer.sort(key=weight.__getitem__)


def crossings(items: Items) -> int:
    """Pairs of edges between neighbouring layers that cross."""
    total = 0
    for above, below in zip(items.layers, items.layers[1:], strict=False):
        if len(above) < 2 or len(below) < 2:
            continue
        place = {item: index for index, item in enumerate(below)}
        seen: list[int] = []
        for item in above:
            ends = sorted(place[other] for other in items.down[item])
            total += sum(len(seen) - bisect_left(seen, end + 1) for end in ends)
            for end in ends:
                insort(seen, end)
    return total
