"""Two graphs side by side: which node is which, in rows that never cross.

Nodes of equal name, or equal first output, are the same; of these the longest run that is in order on both
sides is kept, and the gaps between are filled by the longest common subsequence of operators. The cost is
O(n log n) but for the gaps, which are capped.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

GAP = 40_000  # cells of the table that aligns one gap; above it the gap stays unaligned


@dataclass
class Look:
    """One graph, as it is at one moment. `outputs` are the first outputs' names."""

    names: list[str] = field(default_factory=list)
    ops: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    shapes: list[str] = field(default_factory=list)
    inputs: list[list[int]] = field(default_factory=list)

    @cached_property
    def readers(self) -> list[list[int]]:
        """For each node those that read it."""
        found: list[list[int]] = [[] for _ in self.names]
        for node, sources in enumerate(self.inputs):
            for source in sources:
                found[source].append(node)
        return found

    @cached_property
    def constant(self) -> list[bool]:
        """For each node whether no graph input reaches it."""
        found: list[bool] = []
        for op, sources in zip(self.ops, self.inputs, strict=True):
            found.append(op != "input" and all(found[source] for source in sources))
        return found

    def index(self) -> dict[str, int]:
        """Node by its name, and by its first output's name where no node is called so."""
        found = {name: i for i, name in enumerate(self.outputs) if name}
        named = enumerate(zip(self.names, self.ops, strict=True))
        return found | {name: i for i, (name, op) in named if name and op != "output"}


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
