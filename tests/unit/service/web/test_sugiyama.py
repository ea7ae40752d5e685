"""The layout of the graphs: boxes, layers, places. Random graphs, and the shapes that people look at."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from folding.report import GraphMap, GraphSide, NormSite
from service.web.graph import coordinates, merge_graphs, sugiyama
from tests.unit.service.web import sample

Edges = list[list[int]]


def side(inputs: Edges, inputs_first: int = 1) -> GraphSide:
    """Nodes 0.. of which the first are graph inputs."""
    count = len(inputs)
    ops = [0 if node < inputs_first else 1 for node in range(count)]
    return GraphSide(names=[f"n{i}" for i in range(count)], ops=ops, shapes=[""] * count, inputs=inputs)


def alike(inputs: Edges, removed: frozenset[int] = frozenset()) -> GraphMap:
    """A graph, and the same after the removed nodes handed their readers to what they read first."""
    place: dict[int, int] = {}
    after: Edges = []

    def stand_in(node: int) -> int | None:
        while node in removed:
            if not inputs[node]:
                return None
            node = inputs[node][0]
        return place[node]

    rows = []
    for node, sources in enumerate(inputs):
        if node not in removed:
            found = [stand_in(source) for source in sources]
            place[node] = len(after)
            after.append(list(dict.fromkeys(source for source in found if source is not None)))
        rows.append((node, place.get(node, -1)))
    types = ["input", "Conv", "output"]
    return GraphMap(op_types=types, before=side(inputs), after=side(after), rows=rows)


@st.composite
def graphs(draw: st.DrawFn) -> GraphMap:
    """Up to sixty nodes; most read a near one, some a far one, some nothing."""
    count = draw(st.integers(1, 60))
    inputs: Edges = [[]]
    for node in range(1, count):
        near = st.integers(max(0, node - 4), node - 1)
        sources = draw(st.lists(st.one_of(near, st.integers(0, node - 1)), max_size=3, unique=True))
        inputs.append(sources)
    removed = draw(st.frozensets(st.integers(1, count))) if count > 1 else frozenset()
    return alike(inputs, removed)


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_nothing_overlaps_and_every_line_goes_down(graph: GraphMap) -> None:
    found = sugiyama.layout(graph)
    whole = merge_graphs.merge(graph)
    per_layer: dict[int, list[tuple[int, int]]] = {}
    for box, (layer, x) in enumerate(zip(found.layer, found.x, strict=True)):
        per_layer.setdefault(layer, []).append((x, coordinates.NODE))
        for step, bend in enumerate(found.trunk.get(box, []), start=1):
            per_layer.setdefault(layer + step, []).append((bend, coordinates.BEND))
    for items in per_layer.values():
        for (one, wide), (two, broad) in pairwise(sorted(items)):
            assert two - one >= (wide + broad) / 2 - 2  # places are rounded to pixels
        assert min(x - wide / 2 for x, wide in items) >= -1
        assert max(x + wide / 2 for x, wide in items) <= found.width + 1
    for which, edges in enumerate(whole.edges):
        for source, reader in edges:
            span = found.layer[reader] - found.layer[source]
            assert span >= 1
            if (source, reader) in found.far:
                continue
            way = found.around[which].get((source, reader))
            if way is None:
                assert len(found.trunk.get(source, [])) >= span - 1
            else:
                assert [source, *way, reader] == sorted({source, *way, reader})
                assert whole.there[which].isdisjoint(way)


@settings(max_examples=30, deadline=None)
@given(graphs())
def test_the_same_graph_has_the_same_layout(graph: GraphMap) -> None:
    assert sugiyama.layout(graph) == sugiyama.layout(graph.model_copy(deep=True))


def test_a_removed_node_leaves_a_straight_line() -> None:
    found = sugiyama.layout(alike([[], [0], [1], [2]], frozenset({2})))
    assert found.layer == [0, 1, 2, 3]
    assert len(set(found.x)) == 1
    assert found.around[1] == {(1, 3): [2]}
    assert not found.trunk


def test_branches_stand_beside_each_other() -> None:
    found = sugiyama.layout(alike([[], [0], [0], [0], [1], [4, 2, 3]]))
    assert found.layer == [0, 1, 1, 1, 2, 3]
    places = sorted(found.x[1:4])
    assert all(two - one >= coordinates.NODE for one, two in pairwise(places))
    assert found.x[4] == found.x[1]


def test_a_skip_connection_is_a_line_beside_its_block() -> None:
    found = sugiyama.layout(alike([[], [0], [1], [2, 0]]))
    assert len(found.trunk[0]) == 2
    assert len(set(found.trunk[0])) == 1
    assert len({found.x[1], found.x[2]}) == 1
    assert abs(found.trunk[0][0] - found.x[1]) >= (coordinates.NODE + coordinates.BEND) / 2


def test_a_batch_norm_of_many_nodes_is_one_box() -> None:
    # input, conv, constant, rsqrt, mul(conv, rsqrt), constant, sub(constant, rsqrt), add(mul, sub), relu
    graph = alike([[], [0], [], [2], [1, 3], [], [5, 3], [4, 6], [7]])
    graph.sites.append(NormSite(name="bn", before=[2, 3, 4, 5, 6, 7], after=[1], scale=[1.0], shift=[0.0]))
    whole = merge_graphs.merge(graph)
    assert whole.box == [0, 1, 2, 2, 2, 2, 2, 2, 3]
    assert whole.edges[0] == {(0, 1), (1, 2), (2, 3)}


def test_a_batch_norm_that_is_read_in_its_middle_stays_open_there() -> None:
    graph = alike([[], [0], [1], [2], [2, 3]])  # the Mul (2) of Mul, Add is read by another node too
    graph.sites.append(NormSite(name="bn", before=[2, 3], after=[], scale=[1.0], shift=[0.0]))
    assert merge_graphs.merge(graph).box == [0, 1, 2, 3, 4]


def test_values_that_live_too_long_are_drawn_broken() -> None:
    count = 3000
    inputs: Edges = [[]] + [[node - 1, *([0] if node % 7 else [node // 2])] for node in range(1, count)]
    found = sugiyama.layout(alike([list(dict.fromkeys(sources)) for sources in inputs]))
    assert found.far
    assert sum(map(len, found.trunk.values())) <= sugiyama.BENDS * count + 1000


@pytest.mark.parametrize("layers", [0, 1, 40])
def test_residual_networks_are_narrow(layers: int) -> None:
    found = sugiyama.layout(sample.graph(layers))
    assert found.width <= coordinates.NODE + 3 * coordinates.BEND + 20
    assert max(found.layer) + 1 <= 4 * layers + 2


def test_an_empty_graph_has_an_empty_layout() -> None:
    assert sugiyama.layout(GraphMap()).to_json() == {
        "box": [], "layer": [], "x": [], "width": 0, "trunk": {}, "around": [[], []], "far": [],
    }  # fmt: skip
