"""Batch norm spelled as arithmetic: TensorFlow 1 and 2, Keras, slim, tflearn, hand-written.

Given:  a chain of constant Mul/Add/Sub/Div/Neg over x whose constants contain sqrt(variance + epsilon), e.g.
            x * (gamma * rsqrt(variance + epsilon)) + (beta - mean * gamma * rsqrt(variance + epsilon))
            (x - mean) / sqrt(variance + epsilon) * gamma + beta
Result: the layer's own arrays by role, and the whole chain as one affine.

Roles are read from what the arrays do, not from where they stand. With y = S*x + T and S, T functions of the
leaves, adding 1 to a leaf changes

    gamma   S                      moving_mean   T by -S
    beta    T by exactly 1         (bias before the norm: T by +S, which ends the norm there)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.ir.types import Float64Array
from folding.norms import elementwise
from folding.norms.base import BatchNorm, ChannelAffine
from folding.norms.constants import Constants, Env, stored
from folding.norms.elementwise import Step
from folding.norms.naming import layer_name

SPELLING = "arithmetic"
Pair = tuple[Float64Array, Float64Array]


@dataclass(eq=False)
class Anchor:
    """`sqrt(variance + epsilon)` inside the constants of some steps."""

    variance: ir.Value
    epsilon: float
    epsilon_leaves: tuple[ir.Value, ...]


def find(nodes: list[ir.Node], constants: Constants) -> list[BatchNorm]:
    """Every arithmetic batch norm, in graph order."""
    norms: list[BatchNorm] = []
    for chain in chains(nodes, constants):
        norms += _of_chain(chain, constants)
    return norms


def chains(nodes: list[ir.Node], constants: Constants) -> list[list[Step]]:
    """Longest runs of steps in which each output is read by the next step alone."""
    steps = {node: step for node in nodes if (step := elementwise.step(node, constants)) is not None}
    following: dict[ir.Node, Step] = {}
    for step in steps.values():
        uses = step.y.uses()
        if len(uses) == 1 and not step.y.is_graph_output():
            user = next(iter(uses)).node
            if user in steps and steps[user].x is step.y:
                following[step.node] = steps[user]
    later = {step.node for step in following.values()}
    result = []
    for node, step in steps.items():
        if node in later:
            continue
        run = [step]
        while run[-1].node in following:
            run.append(following[run[-1].node])
        result.append(run)
    return result


def _of_chain(chain: list[Step], constants: Constants) -> list[BatchNorm]:
    anchors = [_anchors(step, constants) for step in chain]
    variances = dict.fromkeys(anchor.variance for group in anchors for anchor in group)
    norms, start = [], 0
    for variance in variances:
        core = [i for i, group in enumerate(anchors) if any(a.variance is variance for a in group)]
        anchor = next(a for a in anchors[core[0]] if a.variance is variance)
        low, high = core[0], core[-1] + 1
        if low < start:
            continue
        ends = [i for i, group in enumerate(anchors) if i >= high and group]
        norm, start = _grow(chain, low, high, start, ends[0] if ends else len(chain), anchor, constants)
        norms.append(norm)
    return norms


def _anchors(step: Step, constants: Constants) -> list[Anchor]:
    """All sqrt(variance + epsilon), by Sqrt or Pow(., +-0.5), within the step's constant."""
    if step.const is None:
        return []
    found, work, seen = [], [step.const], set()
    while work:
        value = work.pop()
        node = value.producer()
        if value in seen or node is None:
            continue
        seen.add(value)
        root = _under_root(node, constants)
        if root is not None:
            found.append(_split_epsilon(root, constants))
        work.extend(item for item in node.inputs if item is not None)
    return found


def _under_root(node: ir.Node, constants: Constants) -> ir.Value | None:
    if g.is_op(node, "Sqrt"):
        return node.inputs[0]
    if g.is_op(node, "Pow") and node.inputs[1] is not None:
        power = constants.evaluate(node.inputs[1])
        if power.size == 1 and abs(float(power.reshape(()))) == 0.5:
            return node.inputs[0]
    return None


def _split_epsilon(value: ir.Value, constants: Constants) -> Anchor:
    node = value.producer()
    if node is not None and g.is_op(node, "Add") and all(item is not None for item in node.inputs):
        left, right = node.inputs
        assert left is not None
        assert right is not None
        for variance, epsilon in ((left, right), (right, left)):
            number = constants.evaluate(epsilon)
            if number.size == 1:
                return Anchor(variance, float(number.reshape(())), tuple(constants.leaves(epsilon)))
    return Anchor(value, 0.0, ())


def _grow(
    chain: list[Step], low: int, high: int, floor: int, ceiling: int, anchor: Anchor, constants: Constants
) -> tuple[BatchNorm, int]:
    """Take in the neighbours that play a role still missing: a mean before, gamma and beta after."""
    roles = _roles(chain[low:high], anchor, constants)
    for back in (1, 2):  # the mean is subtracted right before, or before a Mul by gamma
        if "moving_mean" not in roles and low - back >= floor:
            wider = _roles(chain[low - back : high], anchor, constants)
            if "moving_mean" in wider and len(wider) == len(roles) + back and wider.keys() >= roles.keys():
                low, roles = low - back, wider
    while high < ceiling:
        wider = _roles(chain[low : high + 1], anchor, constants)
        gained = wider.keys() - roles.keys()
        if not gained or not wider.keys() >= roles.keys() or not gained <= {"gamma", "beta"}:
            break
        high, roles = high + 1, wider
    return _record(chain[low:high], roles, anchor, constants), high


def _roles(steps: list[Step], anchor: Anchor, constants: Constants) -> dict[str, ir.Value]:
    leaves: dict[ir.Value, None] = {}
    for step in steps:
        if step.const is not None:
            leaves.update(dict.fromkeys(constants.leaves(step.const)))
    known = set(constants.leaves(anchor.variance)) | set(anchor.epsilon_leaves)
    scale, shift = compose(steps, constants)
    roles: dict[str, ir.Value] = {}
    for leaf in leaves:
        array = constants.evaluate(leaf)
        if leaf in known or array.dtype.kind != "f" or not array.size:
            continue
        role = _role(steps, leaf, array, (scale, shift), constants)
        if role is not None:
            roles.setdefault(role, leaf)
    return roles


def _role(
    steps: list[Step], leaf: ir.Value, array: Float64Array, plain: Pair, constants: Constants
) -> str | None:
    scale, shift = plain
    new_scale, new_shift = compose(steps, constants, {leaf: array + 1.0})
    if not _same(new_scale, scale):
        doubled, _ = compose(steps, constants, {leaf: array * 2.0})
        return "gamma" if _same(doubled, 2.0 * scale) else None  # an exponent, say, is no gamma
    change = new_shift - shift
    size = 1e-9 * (np.abs(shift) + np.abs(new_shift) + np.abs(scale) + 1.0)
    if np.all(np.abs(change + scale) <= size):
        return "moving_mean"
    if np.all(np.abs(change - 1.0) <= size):
        return "beta"
    return None


def _same(left: Float64Array, right: Float64Array) -> bool:
    return bool(np.allclose(left, right, rtol=1e-9, atol=0, equal_nan=True))


def compose(steps: list[Step], constants: Constants, env: Env | None = None) -> Pair:
    """(S, T) of the steps one after another."""
    scale, shift = steps[0].arrays(constants, env)
    with np.errstate(all="ignore"):
        for step in steps[1:]:
            s, t = step.arrays(constants, env)
            scale, shift = s * scale, s * shift + t
    return scale, shift


def _record(steps: list[Step], roles: dict[str, ir.Value], anchor: Anchor, constants: Constants) -> BatchNorm:
    scale, shift = np.broadcast_arrays(*compose(steps, constants))
    axes = [axis for axis, size in enumerate(scale.shape) if size != 1]
    variance = _stored_leaf(anchor, constants)
    values = {"moving_variance": variance, **roles}
    affine, why_not = None, None
    if len(axes) > 1:
        why_not = ("per_activation", f"its parameters vary along axes {axes}")
    else:
        affine = ChannelAffine(scale.reshape(-1), shift.reshape(-1), axes[0] if axes else None)
        if not axes:
            affine = ChannelAffine(scale.reshape(()), shift.reshape(()), None)
    arrays = {role: stored(value).reshape(-1) for role, value in values.items() if value is not None}
    return BatchNorm(
        name=layer_name(values.values(), steps[0].node, steps[-1].y),
        spelling=SPELLING,
        input=steps[0].x,
        output=steps[-1].y,
        nodes=tuple(step.node for step in steps),
        moving_mean=arrays.get("moving_mean"),
        moving_variance=arrays.get("moving_variance", constants.evaluate(anchor.variance).reshape(-1)),
        gamma=arrays.get("gamma"),
        beta=arrays.get("beta"),
        epsilon=anchor.epsilon,
        channel_axis=axes[0] if axes else None,
        affine=affine,
        why_not=why_not,
        variables={role: value.name for role, value in values.items() if value is not None and value.name},
    )


def _stored_leaf(anchor: Anchor, constants: Constants) -> ir.Value | None:
    """The one array that the variance is: through Reshape, Cast and the like, but not through arithmetic."""
    leaves = [
        leaf for leaf in constants.leaves(anchor.variance) if constants.evaluate(leaf).dtype.kind == "f"
    ]
    return leaves[0] if len(leaves) == 1 else None
