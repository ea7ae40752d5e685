"""Join what the source knows of its layers with what stands in the ONNX graph.

A hint finds its norm by the initializers that its variables were bound to, else by numbers: where constants
were folded on the way and no name is left, the arrays it carries still give one scale and one shift.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from folding.ir.types import Float64Array
from folding.norms import arithmetic, batch_statistics
from folding.norms.base import BatchNorm, ChannelAffine, NormHint
from folding.norms.constants import Constants
from folding.norms.elementwise import Step
from folding.norms.onnx_batch_norm import ROLES

_NO_TRACE = (
    "the converted graph holds no trace of it: it lies outside the exported outputs, or the converter "
    "folded it into its neighbours"
)
_CLOSE = 1e-5  # float32 constants computed by a converter, against float64 from the variables


def join(
    norms: list[BatchNorm], hints: list[NormHint], nodes: list[ir.Node], constants: Constants
) -> list[BatchNorm]:
    """Norms with their hints' names and variables; hints without a norm as records of their own."""
    by_array: dict[str, list[NormHint]] = {}
    for hint in hints:
        for name in dict.fromkeys((*hint.initializers.values(), *hint.variables.values())):
            by_array.setdefault(name, []).append(hint)
    matched: set[int] = set()
    for norm in norms:
        hint_found = _best(norm, by_array, matched)
        if hint_found is not None:
            _adopt(norm, hint_found)
            matched.add(id(hint_found))
    _pair_in_order(norms, [hint for hint in hints if id(hint) not in matched], matched)
    left = [hint for hint in hints if id(hint) not in matched]
    if left:
        free = _free_runs(norms, nodes, constants) if any(hint.arrays for hint in left) else {}
        for hint in left:
            norms.append(_by_numbers(hint, free) or _untraced(hint))
    return norms


def _pair_in_order(norms: list[BatchNorm], hints: list[NormHint], matched: set[int]) -> None:
    """Norms on batch moments may have no variable to be known by; if they are as many, order tells."""
    nameless = [norm for norm in norms if norm.hint is None and norm.why_not == batch_statistics.WHY]
    waiting = [hint for hint in hints if hint.batch_statistics]
    if len(nameless) == len(waiting):
        for norm, hint in zip(nameless, waiting, strict=True):
            _adopt(norm, hint)
            matched.add(id(hint))


def _best(norm: BatchNorm, by_array: dict[str, list[NormHint]], matched: set[int]) -> NormHint | None:
    """The hint that shares most arrays; among equals one that has no norm yet, in the source's order."""
    votes = [hint for name in norm.variables.values() for hint in by_array.get(name, ())]
    if not votes:
        return None
    return max(votes, key=lambda hint: (votes.count(hint), id(hint) not in matched))


def _adopt(norm: BatchNorm, hint: NormHint) -> None:
    """The source's names win; its arrays fill what the graph does not show by role."""
    roles = {name: role for role, name in hint.initializers.items()}
    told = {roles[name]: getattr(norm, role) for role, name in norm.variables.items() if name in roles}
    for role, array in told.items():  # the source knows better which is which
        setattr(norm, role, array)
    norm.name, norm.hint = hint.name, hint
    norm.spelling = hint.spelling or norm.spelling
    norm.variables = {
        **{r: n for r, n in norm.variables.items() if r not in hint.variables},
        **hint.variables,
    }
    for role in ROLES:
        if getattr(norm, role) is None and role in hint.arrays:
            setattr(norm, role, hint.arrays[role])
    if norm.epsilon is None:
        norm.epsilon = hint.epsilon
    if hint.batch_statistics and norm.affine is None:
        norm.why_not = batch_statistics.WHY


def _untraced(hint: NormHint) -> BatchNorm:
    if hint.batch_statistics:
        why = ("batch_statistics", "the inference graph normalizes with the statistics of its own batch")
    elif hint.missing:
        why = ("not_in_graph", f"not in the checkpoint: {', '.join(hint.missing)}")
    else:
        why = ("not_in_graph", _NO_TRACE)
    return BatchNorm(
        name=hint.name, spelling=hint.spelling, input=None, output=None, nodes=(),
        moving_mean=hint.arrays.get("moving_mean"), moving_variance=hint.arrays.get("moving_variance"),
        gamma=hint.arrays.get("gamma"), beta=hint.arrays.get("beta"), epsilon=hint.epsilon,
        channel_axis=hint.channel_axis, affine=None, why_not=why, variables=dict(hint.variables), hint=hint,
    )  # fmt: skip


@dataclass(eq=False)
class _Run:
    """Consecutive steps that belong to no norm yet, and the affine that they are together."""

    steps: list[Step]
    scale: Float64Array
    shift: Float64Array


def _free_runs(norms: list[BatchNorm], nodes: list[ir.Node], constants: Constants) -> dict[int, list[_Run]]:
    """Runs of up to four steps by their number of channels, computed once for all hints."""
    taken = {node for norm in norms for node in norm.nodes}
    found: dict[int, list[_Run]] = {}
    for chain in arithmetic.chains([node for node in nodes if node not in taken], constants):
        for low in range(len(chain)):
            for high in range(low + 1, min(low + 4, len(chain)) + 1):
                steps = chain[low:high]
                scale, shift = np.broadcast_arrays(*arithmetic.compose(steps, constants))
                found.setdefault(scale.size, []).append(_Run(steps, scale, shift))
    return found


def _by_numbers(hint: NormHint, free: dict[int, list[_Run]]) -> BatchNorm | None:
    """The run of steps whose scale and shift are those of the hint's arrays."""
    wanted = _affine(hint)
    if wanted is None:
        return None
    runs = free.get(wanted.scale.size, [])
    for run in runs:
        if _same(run.scale, wanted.scale) and _same(run.shift, wanted.shift):
            used = {step.node for step in run.steps}
            runs[:] = [item for item in runs if used.isdisjoint(step.node for step in item.steps)]
            return _traced(hint, run.steps, run.scale, run.shift)
    return None


def _affine(hint: NormHint) -> ChannelAffine | None:
    mean, variance = hint.arrays.get("moving_mean"), hint.arrays.get("moving_variance")
    if mean is None or variance is None or hint.epsilon is None:
        return None
    with np.errstate(all="ignore"):
        scale = 1.0 / np.sqrt(variance.astype(np.float64) + hint.epsilon)
        if "gamma" in hint.arrays:
            scale = scale * hint.arrays["gamma"].astype(np.float64)
        shift = -mean.astype(np.float64) * scale
        if "beta" in hint.arrays:
            shift = shift + hint.arrays["beta"].astype(np.float64)
    return ChannelAffine(scale, shift, hint.channel_axis)


def _same(found: Float64Array, wanted: Float64Array) -> bool:
    """Equal up to float32; the first element settles most comparisons."""
    size = _CLOSE * float(np.abs(wanted).max(initial=0))
    left, right = found.reshape(-1), wanted.reshape(-1)
    if left.size and abs(left[0] - right[0]) > size + _CLOSE * abs(right[0]):
        return False
    return bool(np.allclose(left, right, rtol=_CLOSE, atol=size))


def _traced(hint: NormHint, steps: list[Step], scale: Float64Array, shift: Float64Array) -> BatchNorm:
    axes = [axis for axis, size in enumerate(scale.shape) if size != 1]
    shape = (-1,) if axes else ()
    norm = _untraced(hint)
    norm.input, norm.output = steps[0].x, steps[-1].y
    norm.nodes = tuple(step.node for step in steps)
    norm.channel_axis = axes[0] if axes else None
    norm.affine = ChannelAffine(scale.reshape(shape), shift.reshape(shape), norm.channel_axis)
    norm.why_not = None
    return norm
