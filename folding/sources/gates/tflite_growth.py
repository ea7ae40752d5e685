"""What TensorFlow Lite operators write for constant operands: no small file may ask for a huge tensor."""

from __future__ import annotations

import math

from folding.sources.gates.limits import LIMITS, Limits, refuse, shown
from folding.sources.gates.tflite_model import TfliteGraph, TfliteModel, TfliteOperator, TfliteTensor
from folding.sources.gates.tflite_ops import DTYPES


def check_growth(model: TfliteModel, limits: Limits = LIMITS) -> None:
    """Refuse an operator whose constant operands make it write far more than it reads. Raises UnsafeModel."""
    for graph in model.graphs:
        for operator in graph.operators:
            elements = _computed(graph, operator)
            if elements > limits.computed_elements:
                name = graph.tensors[operator.outputs[0]].name if operator.outputs else operator.op
                refuse(
                    "unsafe_expansion", f"{operator.op} {shown(name)!r} writes {elements} elements.",
                    name=name, limit=limits.computed_elements, hint="Export the model again.",
                )  # fmt: skip


def _computed(graph: TfliteGraph, operator: TfliteOperator) -> int:
    """Elements that an operator writes, where its constants say so and it can grow its input; else 0."""
    held = [graph.tensors[index] if index >= 0 else None for index in operator.inputs]
    first = math.prod(max(1, dim) for dim in held[0].shape) if held and held[0] is not None else 1
    if operator.op == "FILL":
        return math.prod(_integers(held[:1]))
    if operator.op == "BROADCAST_TO":
        return math.prod(_integers(held[1:2]))
    if operator.op == "TILE":
        return first * math.prod(_integers(held[1:2]))
    if operator.op in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"):
        return math.prod(_integers(held[1:2])) * (
            max(1, held[0].shape[-1]) if held[0] and held[0].shape else 1
        )
    if operator.op in ("PAD", "PADV2") and held[0] is not None:
        widths = _integers(held[1:2])
        pairs = zip(held[0].shape, widths[::2], widths[1::2], strict=False)
        return math.prod(max(1, dim) + before + after for dim, before, after in pairs)
    if operator.op == "RANGE" and len(held) == 3:
        start, limit, step = (_integers([item]) for item in held)
        return abs(limit[0] - start[0]) // max(1, abs(step[0])) if start and limit and step else 0
    if operator.op == "ONE_HOT":
        return first * math.prod(_integers(held[1:2]))
    return 0


def _integers(held: list[TfliteTensor | None]) -> list[int]:
    """Values of a constant integer tensor; empty where it is none, which makes a product of 1."""
    for tensor in held:
        if tensor is not None and tensor.data is not None and tensor.type in (2, 4):
            return [int(value) for value in tensor.data.view(DTYPES[tensor.type])]
    return []
