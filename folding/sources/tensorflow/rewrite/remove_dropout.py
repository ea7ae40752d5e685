"""`--feed training=false`: dropout and noise, which training needs and inference does not, taken out.

Given:  y = x * (1 / (1 - rate)) * mask  |  y = SelectV2(mask, x / keep, 0)                  Dropout
        y = x + normal * deviation                                                           GaussianNoise
        y = x * (normal * deviation + 1)                                                     GaussianDropout
        y = a * (x * mask + p * (1 - mask)) + b,  a and b such that mean and variance stay   AlphaDropout
Result: y = x
"""

from __future__ import annotations

from folding.report import Assumption
from folding.sources.tensorflow.graph.constant_eval import evaluate
from folding.sources.tensorflow.graph.tf_graph import Node, TfGraph, canonical, data_inputs, split
from folding.sources.tensorflow.rewrite.dropout import (
    ADDITIONS,
    DropoutMask,
    draws,
    dropout_masks,
    is_value,
)

_NORMAL = frozenset({"RandomStandardNormal", "StatelessRandomNormal", "StatelessRandomNormalV2"})
_SCALED = {"Mul": lambda keep: 1 / keep, "RealDiv": lambda keep: keep, "Div": lambda keep: keep}


def remove(graph: TfGraph, names: set[str]) -> list[Assumption]:
    """Take dropout and added noise out of a graph whose rates are fixed. Returns what was done."""
    readers = graph.consumers()
    alias: dict[str, str] = {}
    masks = 0
    for mask in dropout_masks(graph, names):
        if (found := _dropped(mask, readers) or _alpha_dropped(mask, readers)) is not None:
            alias.update([found])
            masks += 1
    noises = _noises(graph, names)
    alias.update(noises)
    graph.rewire(alias)
    if not alias:
        return []
    what = [f"{masks} dropout(s)"] * bool(masks) + [f"{len(noises)} noise(s)"] * bool(noises)
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
    elif (
        user.op in ("SelectV2", "Select")
        and inputs[0] == current.name
        and is_value(mask.graph, inputs[2], 0.0)
    ):
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
        if is_value(graph, factor, wanted):
            return inner
    return None


def _alpha_dropped(mask: DropoutMask, readers: dict[str, list[Node]]) -> tuple[str, str] | None:
    """(node behind the AlphaDropout, what it is without it)."""
    graph, keep = mask.graph, _keep(mask)
    current = mask.node
    while len(readers.get(current.name, ())) == 1 and readers[current.name][0].op in ("Cast", "Identity"):
        current = readers[current.name][0]
    users = {node.op: node for node in readers.get(current.name, ())}
    kept, lost = users.get("Mul"), users.get("Sub")
    if keep is None or kept is None or lost is None or len(readers[current.name]) != 2:
        return None
    if not is_value(graph, data_inputs(lost)[0], 1.0):
        return None
    data = _other(kept, current.name)
    filled = _only_reader(readers, lost, ("Mul",))
    total = _only_reader(readers, kept, ADDITIONS)
    if filled is None or total is None:
        return None
    joined = _only_reader(readers, filled, ADDITIONS)
    if joined is None or joined.name != total.name:
        return None
    filler = evaluate(graph, _other(filled, lost.name))
    scaled = _only_reader(readers, total, ("Mul",))
    if filler is None or filler.size != 1 or scaled is None:
        return None
    shifted = _only_reader(readers, scaled, ADDITIONS)
    if shifted is None:
        return None
    value = float(filler.reshape(-1)[0])
    scale = (keep * (1 + (1 - keep) * value**2)) ** -0.5
    shift = -scale * value * (1 - keep)
    if not is_value(graph, _other(scaled, total.name), scale, 1e-3):
        return None
    if not is_value(graph, _other(shifted, scaled.name), shift, 1e-3):
        return None
    return str(shifted.name), data


def _other(node: Node, name: str) -> str:
    """The operand of a binary node that is not `name`."""
    left, right = (canonical(ref) for ref in data_inputs(node)[:2])
    return right if left == name else left


def _only_reader(readers: dict[str, list[Node]], node: Node, ops: tuple[str, ...]) -> Node | None:
    found = readers.get(node.name, ())
    return found[0] if len(found) == 1 and found[0].op in ops else None


def _noises(graph: TfGraph, names: set[str]) -> dict[str, str]:
    """Data with random normal numbers of mean 0 added, or of mean 1 multiplied: name -> the data."""
    found: dict[str, str] = {}
    for name in sorted(names):
        node = graph.nodes[name]
        if node.op not in ADDITIONS and node.op != "Mul":
            continue
        is_noise = _is_normal if node.op in ADDITIONS else _is_normal_around_one
        left, right = (canonical(ref) for ref in data_inputs(node)[:2])
        for data, noise in ((left, right), (right, left)):
            if is_noise(graph, noise) and evaluate(graph, data) is None:
                found[name] = data
    return found


def _is_normal_around_one(graph: TfGraph, ref: str) -> bool:
    """`normal * deviation + 1`."""
    node = graph.nodes.get(split(ref)[0])
    while node is not None and node.op in ("Identity", "Cast"):
        node = graph.nodes.get(split(data_inputs(node)[0])[0])
    if node is None or node.op not in ADDITIONS:
        return False
    left, right = data_inputs(node)[:2]
    pairs = ((left, right), (right, left))
    return any(is_value(graph, one, 1.0) and _is_normal(graph, noise) for one, noise in pairs)


def _is_normal(graph: TfGraph, ref: str) -> bool:
    """`normal * deviation + 0`."""

    def allows(op: str, constant: str) -> bool:
        return evaluate(graph, constant) is not None if op == "Mul" else is_value(graph, constant, 0.0)

    return draws(graph, ref, _NORMAL, allows)
