"""QuantizeAndDequantize with a given range, in the arithmetic that TensorFlow's kernel runs.

Given:  y = QuantizeAndDequantizeV2(x, min, max; num_bits, signed_input, narrow_range, range_given=True)
Result: y = Round(Maximum(Minimum(x, high), low) * scale) * (1 / scale)

The side of the range that needs the larger step decides about `scale`, and the other side follows. tf2onnx
writes a pair of 8 bits whatever `num_bits` is.
"""

from __future__ import annotations

import numpy as np

from folding.sources.tensorflow.graph.tf_graph import Node, TfGraph, data_inputs, dtype_of, numpy_dtype

OPS = frozenset({"QuantizeAndDequantizeV2", "QuantizeAndDequantizeV3", "QuantizeAndDequantizeV4"})
_MOST_BITS = 24  # more steps than float32 can tell apart


def is_given(node: Node) -> bool:
    """Whether the range is given, and not that of the data."""
    return bool(node.attr["range_given"].b) if "range_given" in node.attr else node.op.endswith("V3")


def axis_of(node: Node) -> int:
    """The dimension of the channels; -1 for one range."""
    return int(node.attr["axis"].i) if "axis" in node.attr else -1


def quantized_range(
    low: np.ndarray, high: np.ndarray, bits: int, *, signed: bool, narrow: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The range that is clamped to, the scale and its inverse, as the kernel computes them."""
    kind = low.dtype.type
    least = kind((-(1 << (bits - 1)) + int(narrow)) if signed else 0)
    most = kind((1 << (bits - 1)) - 1 if signed else (1 << bits) - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        never = np.finfo(kind).max
        from_low = np.where(least * low > 0, least / low, never).astype(kind)
        from_high = np.where(most * high > 0, most / high, never).astype(kind)
        by_low = from_low < from_high
        scale = np.where(by_low, from_low, from_high).astype(kind)
        inverse = np.where(by_low, low / least if least else kind(0), high / most).astype(kind)
    clamp_high = np.where(by_low, most * inverse, high).astype(kind)
    clamp_low = np.where(by_low, low, least * inverse).astype(kind)
    return clamp_low, clamp_high, scale, inverse


def spell(graph: TfGraph, node: Node, low: np.ndarray, high: np.ndarray, bits: int, rank: int) -> bool:
    """Rewrite one node in place; False where it is left, because its numbers are not those of a range."""
    kind = numpy_dtype(dtype_of(node))
    low, high = np.asarray(low, kind), np.asarray(high, kind)
    sound = bool(np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all())
    if not sound or not (low < high).all() or not 2 <= bits <= _MOST_BITS:
        return False
    signed = bool(node.attr["signed_input"].b) if "signed_input" in node.attr else True
    numbers = quantized_range(low, high, bits, signed=signed, narrow=bool(node.attr["narrow_range"].b))
    if not all(np.isfinite(each).all() for each in numbers):
        return False
    axis = axis_of(node)
    shape = [-1 if place == axis else 1 for place in range(rank)] if axis >= 0 else []
    clamp_low, clamp_high, scale, inverse = (each.reshape(shape) for each in numbers)
    _emit(graph, node, clamp_low, clamp_high, scale, inverse)
    return True


def _emit(graph: TfGraph, node: Node, *numbers: np.ndarray) -> None:
    dtype, name, half_up = dtype_of(node), node.name, node.attr["round_mode"].s == b"HALF_UP"

    def constant(role: str, value: np.ndarray) -> str:
        added = graph.add("Const", f"{name}/{role}").name
        graph.set_constant(added, value)
        return str(added)

    def made(op: str, *inputs: str) -> str:
        return str(graph.add(op, f"{name}/{op}", inputs, T=dtype).name)

    low, high, scale, inverse = numbers
    clamped = made("Minimum", data_inputs(node)[0], constant("high", high))
    clamped = made("Maximum", clamped, constant("low", low))
    steps = made("Mul", clamped, constant("scale", scale))
    if half_up:
        steps = made("AddV2", steps, constant("half", np.asarray(0.5, low.dtype)))
    rounded = made("Floor" if half_up else "Round", steps)
    node.op = "Mul"
    del node.input[:]
    node.input.extend([rounded, constant("inverse", inverse)])
    node.attr.clear()
    node.attr["T"].type = dtype
