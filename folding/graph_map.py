"""The graphs before and after the fold, aligned node by node, for people to look at.

Given: the graph as it was read (`look` before anything changes it), the batch norms found in it, and the
graph as it was written.
Result: `GraphMap`: columns of both graphs, the rows that stand side by side, and for each batch norm its
nodes before and the nodes that took it.

Alignment: nodes of equal name, or equal first output, are the same; of these the longest run that is in
order on both sides is kept (so that rows never cross), and the gaps between are filled by the longest common
subsequence of operators. Cost is O(n log n) but for the gaps, which are capped.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import onnx_ir as ir

from folding.norms.base import BatchNorm
from folding.report import GraphMap, GraphSide, NormSite
from folding.rules.base import Decision

LIMIT = 25_000  # nodes on one side; above it a page cannot help anybody
CHANNELS = 64  # channels of scale and shift that are kept for a look
GAP = 40_000  # cells of the table that aligns one gap; above it the gap stays unaligned


@dataclass
class Look:
    """One graph, as it is at one moment. `outputs` are the first outputs' names."""

    names: list[str] = field(default_factory=list)
    ops: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    inputs: list[list[int]] = field(default_factory=list)

    def index(self) -> dict[str, int]:
        """Node by its name, and by its first output's name where no node is called so."""
        found = {name: i for i, name in enumerate(self.outputs) if name}
        return found | {name: i for i, name in enumerate(self.names) if name}


def look(graph: ir.Graph) -> Look | None:
    """The graph's columns; None when it is too large to be drawn."""
    if graph.num_nodes() > LIMIT:
        return None
    seen = Look()
    places: dict[ir.Value, int] = {}
    for value in graph.inputs:
        if not value.is_initializer():
            places[value] = _add(seen, value.name or "", "input", value, [])
    for node in graph:
        sources = [places[value] for value in _read(node) if value in places]
        first = node.outputs[0] if node.outputs else None
        place = _add(seen, node.name or "", node.op_type, first, list(dict.fromkeys(sources)))
        places.update((value, place) for value in node.outputs)
    for value in graph.outputs:
        _add(seen, value.name or "", "output", value, [places[value]] if value in places else [], alias=False)
    return seen


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
        sites=[_site(d, norms.get(id(d.norm), []), was, is_, partner) for d in decisions],
    )


def _side(seen: Look, numbers: dict[str, int]) -> GraphSide:
    ops = [numbers[op] for op in seen.ops]
    return GraphSide(names=seen.names, ops=ops, shapes=seen.shapes, inputs=seen.inputs)


def _site(
    decision: Decision, own: list[str], was: dict[str, int], is_: dict[str, int], partner: dict[int, int]
) -> NormSite:
    """A kept batch norm stays as its own nodes' partners; a folded one is in the nodes that took it."""
    before = sorted({was[name] for name in own if name in was})
    targets = decision.into if decision.folded else (*own, *decision.into)
    after = {is_[name] for name in targets if name in is_}
    after |= {partner[was[name]] for name in targets if name in was and was[name] in partner}
    affine = decision.norm.affine
    return NormSite(
        name=decision.norm.name,
        before=before,
        after=sorted(after),
        scale=[] if affine is None else [float(v) for v in affine.scale.reshape(-1)[:CHANNELS]],
        shift=[] if affine is None else [float(v) for v in affine.shift.reshape(-1)[:CHANNELS]],
    )


def align(before: Look, after: Look) -> list[tuple[int, int]]:
    """Pairs of the same node on both sides, ascending on both."""
    anchors = _in_order(_same(before, after))
    ends = [(-1, -1), *anchors, (len(before.names), len(after.names))]
    filled: list[tuple[int, int]] = []
    for (left, right), (next_left, next_right) in pairwise(ends):
        if left >= 0:
            filled.append((left, right))
        filled += _gap(before.ops, after.ops, range(left + 1, next_left), range(right + 1, next_right))
    return filled


def _same(before: Look, after: Look) -> list[tuple[int, int]]:
    named, made = {}, {}
    for i, (name, op, output) in enumerate(zip(after.names, after.ops, after.outputs, strict=True)):
        named[name, op] = i
        made[output, op] = i
    pairs, taken = [], set()
    for i, (name, op, output) in enumerate(zip(before.names, before.ops, before.outputs, strict=True)):
        other = named.get((name, op), made.get((output, op)) if output else None)
        if other is not None and other not in taken:
            taken.add(other)
            pairs.append((i, other))
    return pairs


def _in_order(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest subsequence that ascends on the right side as well (patience sorting)."""
    tails: list[int] = []
    at: list[int] = []
    previous: list[int] = []
    for position, (_, right) in enumerate(pairs):
        place = bisect_left(tails, right)
        previous.append(at[place - 1] if place else -1)
        if place == len(tails):
            tails.append(right)
            at.append(position)
        else:
            tails[place], at[place] = right, position
    chain = []
    position = at[-1] if at else -1
    while position >= 0:
        chain.append(pairs[position])
        position = previous[position]
    return chain[::-1]


def _gap(
    left_ops: Sequence[str], right_ops: Sequence[str], left: range, right: range
) -> list[tuple[int, int]]:
    """The longest common subsequence of operators within one gap."""
    if not left or not right or len(left) * len(right) > GAP:
        return []
    same: Callable[[int, int], bool] = lambda i, j: left_ops[left[i]] == right_ops[right[j]]  # noqa: E731
    best = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i in reversed(range(len(left))):
        for j in reversed(range(len(right))):
            longer = max(best[i + 1][j], best[i][j + 1])
            best[i][j] = best[i + 1][j + 1] + 1 if same(i, j) else longer
    found, i, j = [], 0, 0
    while i < len(left) and j < len(right):
        if same(i, j):
            found.append((left[i], right[j]))
            i, j = i + 1, j + 1
        elif best[i + 1][j] >= best[i][j + 1]:
            i += 1
        else:
            j += 1
    return found


def interleave(pairs: Sequence[tuple[int, int]], left: int, right: int) -> list[tuple[int, int]]:
    """Every node of both sides in one list of rows; nodes without a partner stand alone, before first."""
    rows: list[tuple[int, int]] = []
    i = j = 0
    for a, b in [*pairs, (left, right)]:
        rows += [(k, -1) for k in range(i, a)] + [(-1, k) for k in range(j, b)]
        if a < left:
            rows.append((a, b))
        i, j = a + 1, b + 1
    return rows
