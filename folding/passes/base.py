"""What a pass is, and how passes run: in order, again while something changes, at most `ROUNDS` times.

Whether something changed is found by comparing the graph with what it was, whatever a pass says of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from folding.errors import BnfoldError, InternalError, root_error
from folding.ir.edit import open_graphs
from folding.ir.query import all_graphs

ROUNDS = 8  # far above what is needed; a pair of passes that undo each other must end somewhere


@dataclass(frozen=True)
class Pass:
    """One cleaning step. `run` changes the graph in place; `why` justifies its position."""

    name: str
    run: Callable[[ir.Model], object]
    why: str


def run_once(model: ir.Model, passes: Sequence[Pass]) -> bool:
    """Run all passes in order; return whether the graph is another one behind them.

    Raises InternalError with the name of a pass that fails; a BnfoldError of a pass gets it as a detail.
    """
    before = snapshot(model)
    _run(model, passes)
    return snapshot(model) != before


def _run(model: ir.Model, passes: Sequence[Pass]) -> None:
    for step in passes:
        try:
            step.run(model)
        except BnfoldError as error:
            error.details.setdefault("pass", step.name)
            raise
        except MemoryError:
            raise
        except Exception as exc:
            root = root_error(exc)
            if isinstance(root, BnfoldError):  # a weight that cannot be read, say, wrapped by a library
                root.details.setdefault("pass", step.name)
                raise root from exc
            raise InternalError(
                f"the pass `{step.name}` failed: {type(exc).__name__}: {exc}",
                stage="clean",
                details={"pass": step.name},
            ) from exc


def run_until_stable(model: ir.Model, passes: Sequence[Pass]) -> int:
    """Run rounds of all passes until a round changes nothing; return the number of rounds that did."""
    before = snapshot(model)
    for count in range(ROUNDS):
        _run(model, passes)
        after = snapshot(model)
        if after == before:
            return count
        before = after
    return ROUNDS


def snapshot(model: ir.Model) -> list[object]:
    """Return all that a pass can change, to be compared: nodes, what they read and write, types and shapes.

    It holds the objects themselves: a new node is another one, a new shape of equal content is the same.
    """
    found: list[object] = [len(model.functions)]
    for graph in all_graphs(model):
        found += [*graph.inputs, *graph.outputs, *graph.opset_imports.items()]
        for name, value in graph.initializers.items():
            found += [name, value.const_value]
        for node in graph:
            found.append(node)
            found.extend(node.inputs)
            found.extend(node.attributes.data.values())  # of the dictionary itself: ten times as fast
            for value in node.outputs:
                found += (value, value.name, value.type, value.shape)
    return found


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
