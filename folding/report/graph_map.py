"""The graphs before and after the fold, aligned node by node, for people to look at.

Given: the graph as it was read (`look` before anything changes it), the batch norms found in it, and the
graph as it was written.
Result: `GraphMap`: columns of both graphs, the rows that stand side by side (`graph_align`), and for each
batch norm its nodes before and the nodes that took it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush

import onnx_ir as ir

from folding.ir.types import Float64Array
from folding.norms.base import BatchNorm
from folding.report import GraphMap, GraphSide, NormSite
from folding.report.graph_align import Look, align, interleave
from folding.rules.base import Decision

LIMIT = 25_000  # nodes on one side; above it a page cannot help anybody
CHANNELS = 32  # channels of scale and shift that are kept for a look


def look(graph: ir.Graph) -> Look | None:
    """The graph's columns; None when it is too large to be drawn."""
    if graph.num_nodes() > LIMIT:
        return None
    seen = Look()
    places: dict[ir.Value, int] = {}
    for value in graph.inputs:
        if not value.is_initializer():
            places[value] = _add(seen, value.name or "", "input", value, [])
    for node in _in_reading_order(graph):
        sources = [places[value] for value in _read(node) if value in places]
        first = node.outputs[0] if node.outputs else None
        place = _add(seen, node.name or "", node.op_type, first, list(dict.fromkeys(sources)))
        places.update((value, place) for value in node.outputs)
    for value in graph.outputs:
        _add(seen, value.name or "", "output", value, [places[value]] if value in places else [], alias=False)
    return seen


def _in_reading_order(graph: ir.Graph) -> Iterator[ir.Node]:
    """Topological, and what is computed from constants alone comes right before its first reader.

    Converters put such nodes anywhere, often all of them at the top, where nobody sees what they belong to.
    """
    fed: set[ir.Value] = {value for value in graph.inputs if not value.is_initializer()}
    waiting: dict[ir.Node, list[ir.Node]] = {}
    for node in graph:
        sources = list(_read(node))
        makers = [maker for maker in (value.producer() for value in sources) if maker in waiting]
        makers = [maker for maker in dict.fromkeys(makers) if maker is not None]
        outward = any(value.is_graph_output() for value in node.outputs)
        if outward or not fed.isdisjoint(sources):
            fed.update(node.outputs)
            yield from _with_makers(node, makers, waiting)
        else:
            waiting[node] = makers
    for node in list(waiting):  # read by nobody, or only by each other
        if node in waiting:
            yield from _with_makers(node, waiting.pop(node), waiting)


def _with_makers(
    node: ir.Node, makers: list[ir.Node], waiting: dict[ir.Node, list[ir.Node]]
) -> Iterator[ir.Node]:
    """The node after all that it still waits for, without recursion: chains may be long."""
    stack: list[tuple[ir.Node, list[ir.Node]]] = [(node, list(makers))]
    while stack:
        current, before = stack[-1]
        while before and before[0] not in waiting:
            before.pop(0)
        if before:
            stack.append((before[0], list(waiting.pop(before[0]))))
        else:
            stack.pop()
            yield current


def _read(node: ir.Node) -> Iterable[ir.Value]:
    """Values that a node reads, those that its bodies take from outside included."""
    yield from (value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
            for inner in attribute.as_graph():
                yield from _read(inner)


def _add(
    seen: Look, name: str, op: str, value: ir.Value | None, sources: list[int], *, alias: bool = True
) -> int:
    output = (value.name or "") if value is not None else ""
    seen.names.append(name or output)
    seen.ops.append(op)
    seen.outputs.append(output if alias else "")
    seen.shapes.append(_shape(value))
    seen.inputs.append(sources)
    return len(seen.names) - 1


def _shape(value: ir.Value | None) -> str:
    if value is None or value.shape is None:
        return ""
    return "×".join(str(dim) if isinstance(dim, int) else str(dim.value or "?") for dim in value.shape)


def norm_nodes(found: Iterable[BatchNorm]) -> dict[int, list[str]]:
    """Names of each batch norm's nodes, by its id; to be asked for before the fold takes the names away."""
    names: dict[int, list[str]] = {}
    for norm in found:
        names[id(norm)] = [
            name for node in norm.nodes for name in (node.name, *(v.name for v in node.outputs[:1])) if name
        ]
    return names


def build(
    before: Look | None, after: ir.Graph, decisions: Sequence[Decision], norms: dict[int, list[str]]
) -> GraphMap | None:
    """Align the graph that was with the graph that is; None when either is too large."""
    now = look(after)
    if before is None or now is None:
        return None
    pairs = align(before, now)
    types = list(dict.fromkeys([*before.ops, *now.ops]))
    numbers = {name: i for i, name in enumerate(types)}
    partner = dict(pairs)
    was, is_ = before.index(), now.index()
    return GraphMap(
        op_types=types,
        before=_side(before, numbers),
        after=_side(now, numbers),
        rows=interleave(pairs, len(before.names), len(now.names)),
        sites=[_site(d, norms.get(id(d.norm), []), before, (was, is_), partner) for d in decisions],
    )


def _side(seen: Look, numbers: dict[str, int]) -> GraphSide:
    ops = [numbers[op] for op in seen.ops]
    return GraphSide(names=seen.names, ops=ops, shapes=seen.shapes, inputs=seen.inputs)


def _site(
    decision: Decision,
    own: list[str],
    look_before: Look,
    index: tuple[dict[str, int], dict[str, int]],
    partner: dict[int, int],
) -> NormSite:
    """A kept batch norm stays as its own nodes' partners; a folded one is in the nodes that took it."""
    was, is_ = index
    before = sorted(_with_constants({was[name] for name in own if name in was}, look_before))
    targets = decision.into if decision.folded else (*own, *decision.into)
    after = {is_[name] for name in targets if name in is_}
    after |= {partner[was[name]] for name in targets if name in was and was[name] in partner}
    if not after:  # the node that took it goes by the name of what it makes now
        after = {is_[name] for name in own if name in is_}
    affine = decision.norm.affine
    return NormSite(
        name=decision.norm.name,
        before=before,
        after=sorted(after),
        scale=[] if affine is None else _figures(affine.scale),
        shift=[] if affine is None else _figures(affine.shift),
    )


def _figures(values: Float64Array) -> list[float]:
    """The first channels, to seven digits: they are looked at, not computed with."""
    return [float(f"{value:.7g}") for value in values.reshape(-1)[:CHANNELS]]


def _with_constants(nodes: set[int], seen: Look) -> set[int]:
    """The nodes, and those before them that compute from constants for nobody else."""
    found = set(nodes)
    # Largest index first: when a node's turn comes, all its readers have had theirs.
    queue = [-source for node in nodes for source in seen.inputs[node]]
    heapify(queue)
    while queue:
        node = -heappop(queue)
        if node not in found and seen.constant[node] and found.issuperset(seen.readers[node]):
            found.add(node)
            for source in seen.inputs[node]:
                heappush(queue, -source)
    return found
