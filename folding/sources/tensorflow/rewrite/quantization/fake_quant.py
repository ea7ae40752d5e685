"""Fake quantization in the float arithmetic that TensorFlow's kernel runs.

Given:  y = FakeQuantWithMinMaxVars(x, min, max; num_bits, narrow_range)
Result: c = Maximum(Minimum(x, nudged_max), nudged_min)
        y = Floor((c - nudged_min) / scale - zero + 0.5) * scale

A QuantizeLinear pair is not the same function: it rounds half to even where this rounds half up, and runtimes
merge it with its neighbours into integer arithmetic. Both move values at a tie by one step, which is 1/255 of
the range. tf2onnx also takes the other zero point where the range is symmetric, as it computes in double
precision what the kernel computes in single.
"""

from __future__ import annotations

import numpy as np

from folding.errors import UnsupportedModel
from folding.sources.tensorflow.graph.tf_graph import Node, TfGraph, data_inputs

OPS = frozenset({"FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel"})
_FLOAT = 1
_F = np.float32


def limits_of(node: Node) -> tuple[np.ndarray, np.ndarray] | None:
    """min and max where they are attributes; None where they are inputs."""
    if node.op != "FakeQuantWithMinMaxArgs":
        return None
    return np.asarray(node.attr["min"].f, _F), np.asarray(node.attr["max"].f, _F)


def spell(graph: TfGraph, node: Node, low: np.ndarray, high: np.ndarray) -> None:
    """Rewrite one node in place. low, high: float32, scalars or one number per channel (the last axis).

    Raises: UnsupportedModel `fake_quant_range` where they do not hold 0, as the kernel demands.
    """
    low, high = np.asarray(low, _F), np.asarray(high, _F)
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= 0).all() and (high >= 0).all()):
        raise UnsupportedModel(
            f"The fake quantization {node.name!r} has the range {_shown(low)} to {_shown(high)}, which does "
            "not hold 0.",
            code="fake_quant_range",
            layer=node.name,
            hint="The observers never saw data: train or calibrate the quantization before exporting, or "
            "strip it (tfmot.sparsity.keras.strip_pruning, or export the float model).",
        )
    narrow = bool(node.attr["narrow_range"].b)
    bits = int(node.attr["num_bits"].i) if "num_bits" in node.attr else 8
    nudged = nudge(low, high, 1 if narrow else 0, 2**bits - 1)
    _emit(graph, node, *nudged)


def _shown(values: np.ndarray) -> str:
    return f"{values.reshape(-1)[0]:g}" + (" ..." if values.size > 1 else "")


def nudge(
    low: np.ndarray, high: np.ndarray, least: int, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """nudged_min, nudged_max and scale, rounded at each step as the kernel rounds them (float32).

    A channel whose range is empty gives 0, and has the scale 0 here.
    """
    least_f, most_f = _F(least), _F(most)
    scale = ((high - low) / (most_f - least_f)).astype(_F)
    with np.errstate(divide="ignore", invalid="ignore"):
        start = (least_f - low / scale).astype(_F)
    # std::round: half away from zero; the numbers are not negative
    rounded = np.floor(start.astype(np.float64) + 0.5)
    zero = np.where(start < least_f, least_f, np.where(start > most_f, most_f, rounded)).astype(_F)
    zero = np.where(scale > 0, zero, _F(0)).astype(_F)
    return ((least_f - zero) * scale).astype(_F), ((most_f - zero) * scale).astype(_F), scale


def _emit(
    graph: TfGraph, node: Node, nudged_min: np.ndarray, nudged_max: np.ndarray, scale: np.ndarray
) -> None:
    x, name = data_inputs(node)[0], node.name
    divisor = np.where(scale > 0, scale, _F(1)).astype(_F)
    zero = np.floor((-nudged_min * (_F(1) / divisor)).astype(_F) + _F(0.5)).astype(_F)

    def constant(role: str, value: np.ndarray) -> str:
        added = graph.add("Const", f"{name}/{role}").name
        graph.set_constant(added, np.asarray(value, _F))
        return str(added)

    def binary(op: str, left: str, right: str) -> str:
        return str(graph.add(op, f"{name}/{op}", [left, right], T=_FLOAT).name)

    clipped = binary("Minimum", x, constant("nudged_max", nudged_max))
    clipped = binary("Maximum", clipped, constant("nudged_min", nudged_min))
    shifted = binary("Sub", clipped, constant("start", nudged_min))
    steps = binary("RealDiv", shifted, constant("step", divisor))
    steps = binary("Sub", steps, constant("zero", zero))
    steps = binary("AddV2", steps, constant("half", np.asarray(0.5, _F)))
    floor = graph.add("Floor", f"{name}/Floor", [steps], T=_FLOAT).name
    node.op = "Mul"
    del node.input[:]
    node.input.extend([floor, constant("scale", scale)])
    node.attr.clear()
    node.attr["T"].type = _FLOAT
