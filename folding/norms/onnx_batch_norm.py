"""ONNX BatchNormalization of every opset.

Given:  y = BatchNormalization(x, gamma, beta, moving_mean, moving_variance) {epsilon}
Result: scale = gamma / sqrt(moving_variance + epsilon); shift = beta - moving_mean * scale; axis 1.

    opset 1, 6     `is_test`, `spatial`; training when it names more than one output, read or not
    opset 7        `spatial`; training when it names more than one output (onnxruntime: so it does)
    opset 9        no `spatial` any more; as 7
    opset 14, 15   `training_mode`; 15 allows parameters of another dtype than x
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from folding.ir import query as g
from folding.norms import batch_statistics
from folding.norms.base import BatchNorm, ChannelAffine
from folding.norms.constants import Constants
from folding.norms.naming import layer_name

ROLES = ("gamma", "beta", "moving_mean", "moving_variance")
SPELLING = "onnx.BatchNormalization"
_EPSILON = float(np.float32(1e-5))  # the attribute is a float32, its default too


def find(nodes: list[ir.Node], constants: Constants) -> list[BatchNorm]:
    """Every BatchNormalization node, foldable or not."""
    return [_record(node, constants) for node in nodes if g.is_op(node, "BatchNormalization")]


def _record(node: ir.Node, constants: Constants) -> BatchNorm:
    values = dict(zip(ROLES, node.inputs[1:5], strict=False))
    arrays = {
        role: constants.array(value) if value is not None and constants.is_const(value) else None
        for role, value in values.items()
    }
    norm = BatchNorm(
        name=layer_name(values.values(), node, node.outputs[0]),
        spelling=SPELLING,
        input=node.inputs[0],
        output=node.outputs[0],
        nodes=(node,),
        moving_mean=arrays.get("moving_mean"),
        moving_variance=arrays.get("moving_variance"),
        gamma=arrays.get("gamma"),
        beta=arrays.get("beta"),
        epsilon=g.attr_float(node, "epsilon", _EPSILON),
        channel_axis=1,
        affine=None,
        variables={role: value.name for role, value in values.items() if value is not None and value.name},
    )
    norm.why_not = _refusal(node, norm, constants)
    if norm.why_not is None:
        norm.affine = lower(norm)
    elif norm.why_not[0] == "runtime_parameters":
        moments = batch_statistics.moments_of(node, constants)
        if moments:
            norm.nodes, norm.why_not = (*moments, node), batch_statistics.WHY
    return norm


def _refusal(node: ir.Node, norm: BatchNorm, constants: Constants) -> tuple[str, str] | None:
    training = _training(node)
    if training is not None:
        return "training_mode", training
    arrays = {"gamma": norm.gamma, "beta": norm.beta,
              "moving_mean": norm.moving_mean, "moving_variance": norm.moving_variance}  # fmt: skip
    for index, (role, array) in enumerate(arrays.items(), start=1):
        if array is None:
            return _not_constant(role, g.input_at(node, index), constants)
    shapes = {array.shape for array in arrays.values() if array is not None}
    if any(len(shape) > 1 for shape in shapes):
        return "per_activation", (
            f"parameters of shape {sorted(shapes)[-1]} (spatial=0): each activation has its own affine, "
            "a convolution has one per channel"
        )
    if len(shapes) > 1:
        return "runtime_parameters", f"parameter shapes disagree: {sorted(shapes)}"
    return None


def _training(node: ir.Node) -> str | None:
    if g.attr_int(node, "training_mode", 0):
        return "training_mode=1: the node normalizes with the statistics of its own batch"
    extra = [i for i in range(1, len(node.outputs)) if node.outputs[i].name]
    if extra and "training_mode" not in node.attributes and not g.attr_int(node, "is_test", 0):
        return f"it has outputs {extra}, which asks for training mode (before opset 14)"
    return None


def _not_constant(role: str, value: ir.Value | None, constants: Constants) -> tuple[str, str]:
    if value is None:
        return "runtime_parameters", f"{role} is absent"
    leaf = constants.overridden_leaf(value)
    if leaf is not None:
        return "overridable_initializer", f"{role} `{leaf.name}` is also a graph input"
    return "runtime_parameters", f"{role} `{value.name}` is computed at run time"


def lower(norm: BatchNorm) -> ChannelAffine:
    """The affine of a norm with constant statistics, in float64; absent gamma is 1, absent beta 0."""
    assert norm.moving_mean is not None
    assert norm.moving_variance is not None
    mean = norm.moving_mean.astype(np.float64).reshape(-1)
    variance = norm.moving_variance.astype(np.float64).reshape(-1)
    gamma = np.ones(()) if norm.gamma is None else norm.gamma.astype(np.float64).reshape(-1)
    beta = np.zeros(()) if norm.beta is None else norm.beta.astype(np.float64).reshape(-1)
    with np.errstate(all="ignore"):  # a negative variance becomes NaN here, and `health` names it
        scale = gamma / np.sqrt(variance + (norm.epsilon or 0.0))
        shift = beta - mean * scale
    scale, shift = np.broadcast_arrays(scale, shift)
    return ChannelAffine(scale, shift, norm.channel_axis)
