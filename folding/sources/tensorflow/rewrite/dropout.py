"""Dropout in an inference graph: found by its random mask, whatever its rate is called.

Given:  mask = GreaterEqual(uniform, rate=0)  |  mask = Floor(keep=1 + uniform)
Result: mask = 1

`remove`, asked for with `--feed training=false`:
Given:  y = x * (1 / (1 - rate)) * mask  |  y = SelectV2(mask, x / keep, 0)  |  y = x + normal * deviation
Result: y = x
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from folding.report import Assumption
from folding.sources.tensorflow.graph.constant_eval import evaluate
from folding.sources.tensorflow.graph.tf_graph import (
    RANDOM_OPS,
    Node,
    TfGraph,
    canonical,
    data_inputs,
    dtype_of,
    numpy_dtype,
    split,
)

_ADDITIONS = ("Add", "AddV2")


@dataclass(frozen=True)
class DropoutMask:
    """`GreaterEqual(uniform, rate)` or `Floor(keep + uniform)`, uniform in [0, 1)."""

    graph: TfGraph
    node: Node
    rate: str

    def is_off(self, known: dict[str, np.ndarray] | None = None) -> bool:
        """True where no element is ever dropped."""
        value = evaluate(self.graph, self.rate, known)
        if value is None or value.size != 1:
            return False
        return bool(value <= 0) if self.node.op == "GreaterEqual" else bool(value == 1)


def dropout_masks(graph: TfGraph, names: set[str]) -> list[DropoutMask]:
    """Every dropout mask among the named nodes."""
    masks = []
    for name in sorted(names):
        node = graph.nodes[name]
        inputs = data_inputs(node)
        if node.op == "GreaterEqual" and _uniform(graph, inputs[0]):
            masks.append(DropoutMask(graph, node, inputs[1]))
        elif node.op == "Floor":
            added = graph.nodes.get(split(inputs[0])[0])
            if added is not None and added.op in ("Add", "AddV2"):
                left, right = data_inputs(added)
                for rate, noise in ((left, right), (right, left)):
                    if _uniform(graph, noise):
                        masks.append(DropoutMask(graph, node, rate))
    return masks


def _uniform(graph: TfGraph, ref: str) -> bool:
    """A uniform random tensor in [0, 1), through `* (1 - 0) + 0`, switches and identities."""
    return _draws(graph, ref, RANDOM_OPS, lambda op, constant: _is(graph, constant, float(op == "Mul"), 0.0))


def _draws(
    graph: TfGraph, ref: str, ops: frozenset[str], allows: Callable[[str, str], bool], depth: int = 0
) -> bool:
    """Whether `ref` is drawn by one of `ops`, through identities and arithmetic with allowed constants.

    allows: (operator, reference of the constant) -> whether the drawn numbers may go through.
    """
    node = graph.nodes.get(split(ref)[0])
    if node is None or depth > 8:
        return False
    if node.op in ops:
        return True
    inputs = data_inputs(node)
    if node.op in ("Identity", "Cast"):
        return _draws(graph, inputs[0], ops, allows, depth + 1)
    if node.op != "Mul" and node.op not in _ADDITIONS:
        return False
    return any(
        allows(node.op, constant) and _draws(graph, noise, ops, allows, depth + 1)
        for noise, constant in (inputs[:2], inputs[1::-1])
    )


def turn_dropout_off(graph: TfGraph, names: set[str]) -> None:
    """Masks that drop nothing become the constant 1 (True for a comparison)."""
    for mask in dropout_masks(graph, names):
        if mask.is_off():
            dtype = np.bool_ if mask.node.op == "GreaterEqual" else numpy_dtype(dtype_of(mask.node))
            graph.set_constant(mask.node.name, np.asarray(1, dtype))


_NORMAL = frozenset({"RandomStandardNormal", "StatelessRandomNormal", "StatelessRandomNormalV2"})
_SCALED = {"Mul": lambda keep: 1 / keep, "RealDiv": lambda keep: keep, "Div": lambda keep: keep}


def remove(graph: TfGraph, names: set[str]) -> list[Assumption]:
    """Take dropout and added noise out of a graph whose rates are fixed. Returns what was done."""
    readers = graph.consumers()
    alias: dict[str, str] = {}
    masks = 0
    for mask in dropout_masks(graph, names):
        if (found := _dropped(mask, readers)) is not None:
            alias.update([found])
            masks += 1
    noises = _noises(graph, names)
    alias.update(noises)
    graph.rewire(alias)
    if not alias:
        return []
    what = [f"{masks} dropout(s)"] * bool(masks) + [f"{len(noises)} added noise(s)"] * bool(noises)
    return [
        Assumption(
            what="dropout",
            value="off",
            why=f"asked for with --feed training=false: {' and '.join(what)} left out",
            override="leave --feed training=false out to keep them",
        )
    ]


def _dropped(mask: DropoutMask, readers: dict[str, list[Node]]) -> tuple[str, str] | None:
    """(node behind the dropout, what it is without it)."""
    keep = _keep(mask)
    current = mask.node
    while len(readers.get(current.name, ())) == 1 and readers[current.name][0].op in ("Cast", "Identity"):
        current = readers[current.name][0]
    users = readers.get(current.name, ())
    if keep is None or len(users) != 1:
        return None
    user, inputs = users[0], [canonical(ref) for ref in data_inputs(users[0])]
    if user.op == "Mul":
        value = inputs[1 - inputs.index(current.name)]
    elif user.op in ("SelectV2", "Select") and inputs[0] == current.name and _is(mask.graph, inputs[2], 0.0):
        value = inputs[1]
    else:
        return None
    inner = _unscaled(mask.graph, mask.graph.nodes.get(split(value)[0]), keep)
    if inner is not None:
        return str(user.name), inner
    after = readers.get(user.name, ())  # x * mask / keep
    if len(after) == 1 and _unscaled(mask.graph, after[0], keep) == user.name:
        return str(after[0].name), value
    return str(user.name), value


def _keep(mask: DropoutMask) -> float | None:
    rate = evaluate(mask.graph, mask.rate)
    if rate is None or rate.size != 1:
        return None
    keep = float(rate.reshape(-1)[0])
    keep = 1 - keep if mask.node.op == "GreaterEqual" else keep
    return keep if 0 < keep <= 1 else None


def _unscaled(graph: TfGraph, node: Node | None, keep: float) -> str | None:
    """What a node scales by 1 / keep; None where it does something else."""
    if node is None or node.op not in _SCALED:
        return None
    left, right = (canonical(ref) for ref in data_inputs(node)[:2])
    wanted = _SCALED[node.op](keep)
    for inner, factor in ((left, right), (right, left)) if node.op == "Mul" else ((left, right),):
        if _is(graph, factor, wanted):
            return inner
    return None


def _is(graph: TfGraph, ref: str, wanted: float, relative: float = 1e-5) -> bool:
    value = evaluate(graph, ref)
    if value is None or value.size != 1:
        return False
    return bool(np.isclose(float(value.reshape(-1)[0]), wanted, rtol=relative, atol=1e-3 * relative))


def _noises(graph: TfGraph, names: set[str]) -> dict[str, str]:
    """Sums of data and random normal numbers of mean 0, as GaussianNoise makes them."""
    found: dict[str, str] = {}
    for name in sorted(names):
        node = graph.nodes[name]
        if node.op not in _ADDITIONS:
            continue
        left, right = (canonical(ref) for ref in data_inputs(node)[:2])
        for data, noise in ((left, right), (right, left)):
            if _is_normal(graph, noise) and evaluate(graph, data) is None:
                found[name] = data
    return found


def _is_normal(graph: TfGraph, ref: str) -> bool:
    """`normal * deviation + 0`."""

    def allows(op: str, constant: str) -> bool:
        return evaluate(graph, constant) is not None if op == "Mul" else _is(graph, constant, 0.0)

    return _draws(graph, ref, _NORMAL, allows)
