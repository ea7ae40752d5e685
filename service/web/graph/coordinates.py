"""Places across for a layered graph: long lines straight, parents over their children, nothing overlapping.

After Brandes and Koepf, "Fast and Simple Horizontal Coordinate Assignment" (2001): four times, once for each
corner that one may start from, every item is aligned with a median neighbour into vertical blocks; the blocks
are packed as tightly as they go; the place of an item is the mean of the two middle ones of its four.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise

from service.web.graph.items import Items

NODE = 160  # pixels of a box with its margin
BEND = 16  # pixels between two lines

Edge = tuple[int, int]


def place(items: Items) -> tuple[list[float], float]:
    """x of every item's middle, and the width of the whole; empty graphs have width 0."""
    if not items.layers:
        return [], 0.0
    marked = conflicts(items)
    found = []
    for down in (True, False):
        for left in (True, False):
            root = align(items, marked, down=down, left=left)
            x = pack(items, root, left=left)
            found.append(x if left else [-value for value in x])
    return _balanced(items, found)


def _wide(items: Items, item: int) -> int:
    return BEND if items.is_bend(item) else NODE


def conflicts(items: Items) -> set[Edge]:
    """Edges that cross a line between two bends: the line stays straight, the edge gives way."""
    marked: set[Edge] = set()
    for above, below in pairwise(items.layers):
        place = {item: index for index, item in enumerate(above)}
        low, start = 0, 0
        for index, item in enumerate(below):
            inner = next((o for o in items.up[item] if items.is_bend(item) and items.is_bend(o)), None)
            if inner is None and index < len(below) - 1:
                continue
            high = len(above) if inner is None else place[inner]
            for other in below[start : index + 1]:
                for source in items.up[other]:
                    if not low <= place[source] <= high and not (
                        items.is_bend(other) and items.is_bend(source)
                    ):
                        marked.add((source, other))
            start, low = index + 1, high
    return marked


def align(items: Items, marked: set[Edge], *, down: bool, left: bool) -> list[int]:
    """Blocks: for each item the topmost of those that stand exactly below one another."""
    root = list(range(len(items.up)))
    near = items.up if down else items.down
    for before, now in pairwise(items.layers if down else items.layers[::-1]):
        place = {item: index for index, item in enumerate(before if left else before[::-1])}
        taken = -1
        for item in now if left else now[::-1]:
            around = sorted(place[other] for other in near[item])
            if not around:
                continue
            middles = {(len(around) - 1) // 2, len(around) // 2}
            for middle in sorted(middles):
                at = around[middle]
                other = before[at] if left else before[-1 - at]
                if at > taken and ((other, item) if down else (item, other)) not in marked:
                    root[item] = root[other]
                    taken = at
                    break
    return root


def pack(items: Items, root: list[int], *, left: bool) -> list[float]:
    """Blocks as far to one side as they go, then those with room pulled towards what is beside them."""
    after: dict[int, dict[int, float]] = {}
    before: dict[int, dict[int, float]] = {}
    waiting = dict.fromkeys(root, 0)
    for layer in items.layers:
        for one, two in pairwise(layer if left else layer[::-1]):
            gap = (_wide(items, one) + _wide(items, two)) / 2
            first, second = root[one], root[two]
            known = after.setdefault(first, {})
            if second not in known:
                waiting[second] += 1
            known[second] = max(gap, known.get(second, 0.0))
            before.setdefault(second, {})[first] = known[second]
    order = _topological(waiting, after)
    x: dict[int, float] = {}
    for block in order:
        x[block] = max((x[other] + gap for other, gap in before.get(block, {}).items()), default=0.0)
    for block in reversed(order):
        room = min((x[other] - gap for other, gap in after.get(block, {}).items()), default=None)
        if room is not None:
            x[block] = max(x[block], room)
    return [x[block] for block in root]


def _topological(waiting: dict[int, int], after: dict[int, dict[int, float]]) -> list[int]:
    order: list[int] = []
    ready = deque(block for block, count in waiting.items() if not count)
    while ready:
        block = ready.popleft()
        order.append(block)
        for other in after.get(block, ()):
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)
    return order


def _balanced(items: Items, found: list[list[float]]) -> tuple[list[float], float]:
    """The four layouts laid over the narrowest one, then the middle of each item's four places."""
    half = [_wide(items, item) / 2 for item in range(len(items.up))]
    spans = [
        (min(x - h for x, h in zip(xs, half, strict=True)), max(x + h for x, h in zip(xs, half, strict=True)))
        for xs in found
    ]
    low, high = min(spans, key=lambda span: span[1] - span[0])
    moved = []
    for index, (xs, span) in enumerate(zip(found, spans, strict=True)):
        by = low - span[0] if index % 2 == 0 else high - span[1]
        moved.append([x + by for x in xs])
    middle = []
    for four in zip(*moved, strict=True):
        ordered = sorted(four)
        middle.append((ordered[1] + ordered[2]) / 2)
    first = min(x - h for x, h in zip(middle, half, strict=True))
    last = max(x + h for x, h in zip(middle, half, strict=True))
    return [x - first for x in middle], last - first
