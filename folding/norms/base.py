"""The two records that every spelling of batch norm is lowered to.

y = gamma * (x - moving_mean) / sqrt(moving_variance + epsilon) + beta
  = scale * x + shift            along channel_axis, in float64
scale = gamma / sqrt(moving_variance + epsilon)
shift = beta - moving_mean * scale
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from folding.ir.types import Array, Float64Array


@dataclass(frozen=True, eq=False)
class ChannelAffine:
    """`y = scale * x + shift` along one axis of a value.

    scale, shift: float64, shape (C,), or both () when every element gets the same numbers.
    axis: non-negative, within the rank of the value that it applies to; None with shape ().
    """

    scale: Float64Array
    shift: Float64Array
    axis: int | None

    def then(self, after: ChannelAffine) -> ChannelAffine:
        """The affine of applying `self` first and `after` second (equal axes, or one scalar)."""
        axis = self.axis if self.axis is not None else after.axis
        scale = np.multiply(after.scale, self.scale)
        shift = np.multiply(after.scale, self.shift) + after.shift
        scale, shift = np.broadcast_arrays(scale, shift)
        return ChannelAffine(scale, shift, axis)


@dataclass(frozen=True, eq=False)
class NormHint:
    """What a source knows of a batch norm before the ONNX graph exists: its names, and its past.

    variables: role -> name in the source. Roles: moving_mean, moving_variance, gamma, beta.
    initializers: role -> name of the ONNX initializer that the variable was bound to (often equal).
    missing: roles whose variable the checkpoint does not hold.
    batch_statistics: the inference graph normalizes with the batch's own statistics.
    evidence: facts for `health` (update ops present, run, counted; zero_debias; training mode fixed, ...).
    arrays: role -> raw array, for layers that have no trace in the ONNX graph.
    """

    name: str
    spelling: str
    variables: dict[str, str] = field(default_factory=dict)
    initializers: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    epsilon: float | None = None
    momentum: float | None = None
    channel_axis: int | None = None
    batch_statistics: bool = False
    evidence: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)


@dataclass(eq=False)
class BatchNorm:
    """A batch norm found in the ONNX graph.

    input, output: the values on its two sides; `nodes` lie between them and go when it folds.
    moving_mean, moving_variance, gamma, beta: raw arrays, shape (C,), as stored; None where absent.
    affine: None when it cannot be lowered (batch statistics, run-time parameters); `why_not` says why.
    """

    name: str
    spelling: str
    input: ir.Value | None
    output: ir.Value | None
    nodes: tuple[ir.Node, ...]
    moving_mean: Array | None
    moving_variance: Array | None
    gamma: Array | None
    beta: Array | None
    epsilon: float | None
    channel_axis: int | None
    affine: ChannelAffine | None
    why_not: tuple[str, str] | None = None
    variables: dict[str, str] = field(default_factory=dict)
    hint: NormHint | None = None
    restate: bool = False  # the affine is no longer what the nodes compute (recalibration sets it)
