"""Constant arithmetic between an input and the first layer: the preprocessing that an artifact holds.

    Given:  x -> Cast -> Sub mean -> Div std -> Conv
    Result: one affine, scale 1/std and shift -mean/std, from the cast value to the layer

It is lowered to the same record as a batch norm, so the fold takes it the same way and states the same
decision and certificate for it. It has no statistics, and no batch norm is counted for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import onnx_ir as ir

from folding.ir.query import is_op
from folding.norms import elementwise
from folding.norms.base import BatchNorm, ChannelAffine
from folding.norms.constants import Constants

SPELLING = "input_preprocessing"


def find(model: ir.Model, inputs: Collection[str], taken: Iterable[ir.Node] = ()) -> list[BatchNorm]:
    """Return the affine behind each of these inputs, where there is one. Nodes in `taken` end it."""
    constants, ends = Constants(model), set(taken)
    found = (_behind(value, constants, ends) for value in model.graph.inputs if value.name in inputs)
    return [affine for affine in found if affine is not None]


def _behind(value: ir.Value, constants: Constants, ends: set[ir.Node]) -> BatchNorm | None:
    here = value
    while (node := _only_reader(here)) is not None and is_op(node, "Cast", "Identity"):
        here = node.outputs[0]
    first, nodes = here, []
    scale, shift = np.ones(()), np.zeros(())
    while (node := _only_reader(here)) is not None and node not in ends:
        step = elementwise.step(node, constants)
        if step is None or step.x is not here:
            break
        factor, offset = step.arrays(constants)
        scale, shift = scale * factor, shift * factor + offset
        nodes.append(node)
        here = step.y
    affine = _by_channel(scale, shift)
    if not nodes or affine is None:
        return None
    return BatchNorm(
        name=value.name or "input", spelling=SPELLING, input=first, output=here, nodes=tuple(nodes),
        moving_mean=None, moving_variance=None, gamma=None, beta=None, epsilon=None,
        channel_axis=affine.axis, affine=affine,
    )  # fmt: skip


def _only_reader(value: ir.Value) -> ir.Node | None:
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def _by_channel(scale: np.ndarray, shift: np.ndarray) -> ChannelAffine | None:
    """Return the affine along the one axis on which it varies; None where it varies on several."""
    scale, shift = np.broadcast_arrays(scale, shift)
    axes = [axis for axis, size in enumerate(scale.shape) if size > 1]
    if len(axes) > 1:
        return None
    shape = (-1,) if axes else ()
    return ChannelAffine(scale.reshape(shape), shift.reshape(shape), axes[0] if axes else None)
