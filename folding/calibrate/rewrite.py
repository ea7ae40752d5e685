"""Measured statistics in the place of the stored ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from folding.calibrate.channel_axis import axis_of
from folding.calibrate.measure import Moments
from folding.ir.edit import append, named_initializer, prune, remove_dead_nodes, replace_value
from folding.ir.query import float_dtype
from folding.norms.base import BatchNorm, ChannelAffine


def rewrite(model: ir.Model, norms: list[BatchNorm], moments: dict[int, Moments]) -> list[BatchNorm]:
    """Replace each norm by one Mul and one Add of the measured statistics, which then fold like any other."""
    fresh = []
    measured = list(moments.values())
    for position, norm in enumerate(norms):
        held = moments.get(id(norm), measured[position] if position < len(measured) else None)
        assert held is not None
        fresh.append(_replaced(model, norm, held))
    model.graph.sort()
    remove_dead_nodes(model.graph)
    return fresh


def _replaced(model: ir.Model, norm: BatchNorm, found: Moments) -> BatchNorm:
    assert norm.input is not None
    assert norm.output is not None
    assert norm.input.shape is not None
    graph, x, axis = model.graph, norm.input, axis_of(norm)
    stored = _stored_type(norm)
    mean, variance = found.mean.astype(stored), found.variance.astype(stored)
    gamma = 1.0 if norm.gamma is None else np.asarray(norm.gamma, np.float64).reshape(-1)
    beta = 0.0 if norm.beta is None else np.asarray(norm.beta, np.float64).reshape(-1)
    scale = gamma / np.sqrt(variance.astype(np.float64) + (norm.epsilon or 0.0))
    shift = beta - mean.astype(np.float64) * scale
    shape = [-1 if each == axis else 1 for each in range(len(norm.input.shape))]
    dtype = float_dtype(x)
    # The fold takes what the nodes compute: the constants as they are stored.
    scale, shift = scale.astype(dtype), shift.astype(dtype)
    y, nodes = x, []
    for op, role, array in (("Mul", "scale", scale), ("Add", "shift", shift)):
        name = f"{norm.output.name}/recalibrated"
        held = named_initializer(graph, f"{name}_{role}", array.reshape(shape))
        y = append(graph, op, [y, held], f"{name}_{op.lower()}")
        y.shape = norm.output.shape
        producer = y.producer()
        assert producer is not None
        nodes.append(producer)
    replace_value(norm.output, y)
    prune(list(norm.nodes))
    hint = norm.hint
    if hint is not None:
        hint = replace(hint, batch_statistics=False, missing=(), arrays={}, evidence={}, initializers={})
    return replace(
        norm,
        output=y,
        nodes=tuple(nodes),
        moving_mean=mean,
        moving_variance=variance,
        affine=ChannelAffine(scale.astype(np.float64), shift.astype(np.float64), axis),
        why_not=None,
        hint=hint,
    )


def _stored_type(norm: BatchNorm) -> np.dtype[Any]:
    for array in (norm.moving_mean, norm.gamma, norm.beta):
        if array is not None and np.asarray(array).dtype.kind == "f":
            return np.asarray(array).dtype
    return np.dtype(np.float32)
