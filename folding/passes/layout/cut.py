"""Minimum cut (Dinic): which nodes go to the source's side so that the cut edges cost least."""

from __future__ import annotations

from collections import deque

INFINITE = 1 << 60
SOURCE, SINK = 0, 1


class Network:
    """Directed edges with capacities; nodes 0 and 1 are source and sink."""

    def __init__(self) -> None:
        self._to: list[int] = []
        self._capacity: list[int] = []
        self._edges: list[list[int]] = [[], []]

    def node(self) -> int:
        """A new node."""
        self._edges.append([])
        return len(self._edges) - 1

    def edge(self, start: int, end: int, capacity: int) -> None:
        """Costs `capacity` when start is on the source's side and end is not."""
        for a, b, c in ((start, end, capacity), (end, start, 0)):
            self._edges[a].append(len(self._to))
            self._to.append(b)
            self._capacity.append(c)

    def source_side(self) -> list[bool]:
        """By node, whether it lies on the source's side of a minimum cut."""
        while True:
            level = self._levels()
            if level[SINK] < 0:
                return [depth >= 0 for depth in level]
            position = [0] * len(self._edges)
            while self._augment(level, position):
                pass

    def _levels(self) -> list[int]:
        level = [-1] * len(self._edges)
        level[SOURCE] = 0
        queue = deque([SOURCE])
        while queue:
            node = queue.popleft()
            for edge in self._edges[node]:
                if self._capacity[edge] > 0 and level[self._to[edge]] < 0:
                    level[self._to[edge]] = level[node] + 1
                    queue.append(self._to[edge])
        return level

    def _augment(self, level: list[int], position: list[int]) -> bool:
        """Push flow along one path of increasing levels; iterative, as networks are deep."""
        path: list[int] = []
        node = SOURCE
        while node != SINK:
            edges = self._edges[node]
            while position[node] < len(edges):
                edge = edges[position[node]]
                if self._capacity[edge] > 0 and level[self._to[edge]] == level[node] + 1:
                    break
                position[node] += 1
            else:
                if not path:
                    return False
                back = path.pop()
                node = self._to[back ^ 1]
                position[node] += 1
                continue
            path.append(edge)
            node = self._to[edge]
        flow = min(self._capacity[edge] for edge in path)
        for edge in path:
            self._capacity[edge] -= flow
            self._capacity[edge ^ 1] += flow
        return True
