"""What a pass is, and how passes run: in order, again while something changes, at most `ROUNDS` times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from folding.ir.edit import open_graphs

ROUNDS = 8  # far above what is needed; a pair of passes that undo each other must end somewhere


@dataclass(frozen=True)
class Pass:
    """One cleaning step. `run` returns True when it changed the graph; `why` justifies its position."""

    name: str
    run: Callable[[ir.Model], bool]
    why: str


def run_once(model: ir.Model, passes: Sequence[Pass]) -> bool:
    """All passes in order; True when any changed something."""
    changed = False
    for step in passes:
        changed |= step.run(model)
    return changed


def run_until_stable(model: ir.Model, passes: Sequence[Pass]) -> int:
    """Rounds of all passes until a round changes nothing; the number of rounds that did."""
    for count in range(ROUNDS):
        if not run_once(model, passes):
            return count
    return ROUNDS


Peephole = Callable[[ir.Node], bool]
"""Looks at one node, perhaps rewrites around it; True when it did. It may remove that node, no later one."""


def peepholes(rules: Iterable[tuple[str, Peephole]]) -> Callable[[ir.Model], bool]:
    """One walk over all graphs that offers each node to the rules of its operator, in order."""
    table: dict[str, list[Peephole]] = {}
    for op_type, rule in rules:
        table.setdefault(op_type, []).append(rule)

    def run(model: ir.Model) -> bool:
        changed = False
        for graph in open_graphs(model):
            for node in graph:
                if node.domain not in ("", "ai.onnx"):
                    continue
                for rule in table.get(node.op_type, ()):
                    if node.graph is None:
                        break
                    changed |= rule(node)
        return changed

    return run
