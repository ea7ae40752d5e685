"""Keep tf2onnx 1.17 from work that changes nothing: its own code is replaced here and in `tf2onnx_names`.

Each of some thirty rewriters tries its patterns at every node of the graph and has the graph build all of its
tables again. Two methods are replaced while a graph is converted, neither with another result:

    GraphMatcher.match_ops   no node is tried where the pattern names an operator that the graph does not have
    Graph.reset_nodes        tables are kept where nodes, inputs and outputs are those of the last call

`tests/integration/tensorflow/test_tf2onnx_speed.py` compares both with the originals, and tells when they
have changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

_LAST = "_bnfold_last_reset"


def possible(pattern: Any, kinds: set[str]) -> bool:
    """Whether a pattern can match in a graph whose operators are of `kinds`.

    A part that may be anything, or nothing, is left out; all others must have one of their operators there.
    """
    if pattern.op_type is None:
        return True
    if pattern.op_type != "*" and not pattern.op_type_set & kinds:
        return False
    return all(possible(part, kinds) for part in pattern.inputs)


def kinds_around(nodes: Iterable[Any]) -> set[str]:
    """Operators of the nodes, of their graph and of the graphs around it, where inputs may come from."""
    found: set[str] = set()
    graph = None
    for node in nodes:
        found.add(node.type)
        graph = node.graph
    while graph is not None:
        found.update(node.type for node in graph.get_nodes())
        graph = graph.parent_graph
    return found


def state_of(nodes: Iterable[Any]) -> list[tuple[Any, str, tuple[str, ...], tuple[str, ...]]]:
    """What the tables of a graph are made of."""
    return [(node, node.name, tuple(node.input), tuple(node.output)) for node in nodes]


@contextmanager
def without_idle_work(package: Any) -> Iterator[None]:
    """Replace the two methods of tf2onnx, and put its own back."""
    matcher, graph = package.graph_matcher.GraphMatcher, package.graph.Graph
    match_ops, reset_nodes = matcher.match_ops, graph.reset_nodes

    def match_where_possible(self: Any, ops: Iterable[Any]) -> Iterator[Any]:
        ops = ops if isinstance(ops, list) else list(ops)
        if possible(self._pattern, kinds_around(ops)):
            yield from match_ops(self, ops)

    def reset_where_changed(self: Any, ops: Any) -> None:
        state = state_of(ops)
        if getattr(self, _LAST, None) == state and len(self._nodes_by_name) == len(state):
            self._nodes = ops
            return
        reset_nodes(self, ops)
        setattr(self, _LAST, state)

    matcher.match_ops, graph.reset_nodes = match_where_possible, reset_where_changed
    try:
        yield
    finally:
        matcher.match_ops, graph.reset_nodes = match_ops, reset_nodes
