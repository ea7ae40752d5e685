"""Values for inputs that are an operator's argument rather than data: indices, axes, shapes, lengths.

Such an input has few valid values, and what is valid depends on the shapes of the operands beside it. Each
entry of `ARGUMENTS` says, for one operand of one operator, which values the operator accepts, best first.
"""

from __future__ import annotations

from collections.abc import Sequence

from folding.verify.probes.argument_indices import (
    class_index,
    depth_of_one_hot,
    frame_length,
    frame_step,
    nd_index,
    one_hot_index,
    shift_bits,
    signal_axis,
    signal_length,
    slice_ends,
    slice_starts,
    span,
    steps_of_time,
    top_count,
    unpool_index,
    within,
    write_position,
)
from folding.verify.probes.argument_shapes import (
    axes_of_one,
    block_shape,
    broadcast_shape,
    crop_region,
    declared_shape,
    grid_size,
    image_shape,
    new_axes,
    one_axis,
    padding,
    scale_factors,
    sequence_split,
    some_axes,
    split_sizes,
    target_shape,
)
from folding.verify.probes.operator_reading import Proposal, Reading, Rule

REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
    "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
# (operator, operand) -> what the operand may hold.
ARGUMENTS: dict[tuple[str, int], Rule] = {
    ("Gather", 1): within(),
    ("GatherElements", 1): within(),
    ("ScatterElements", 1): within(),
    ("Scatter", 1): within(),
    ("GatherND", 1): nd_index,
    ("ScatterND", 1): nd_index,
    ("OneHot", 0): one_hot_index,
    ("OneHot", 1): depth_of_one_hot,
    ("NegativeLogLikelihoodLoss", 1): class_index,
    ("SoftmaxCrossEntropyLoss", 1): class_index,
    ("ArrayFeatureExtractor", 1): within("", -1),
    ("BitShift", 1): shift_bits,
    ("Div", 1): span(1, 9),
    ("Mod", 1): span(1, 9),
    ("TensorScatter", 2): write_position,
    ("Attention", 6): within("", -2, least=1, past=1, position=1),
    ("LSTM", 4): steps_of_time(0),
    ("GRU", 4): steps_of_time(0),
    ("RNN", 4): steps_of_time(0),
    ("ReverseSequence", 1): within("time_axis", 0, least=1, past=1),
    ("SequenceAt", 1): span(0, 0),
    ("SequenceInsert", 2): span(0, 0),
    ("SequenceErase", 1): span(0, 0),
    ("Range", 0): span(0, 2),
    ("Range", 1): span(5, 9),
    ("Range", 2): span(1, 2),
    ("TopK", 1): top_count,
    ("Tile", 1): span(1, 2),
    ("CumSum", 1): one_axis,
    ("CumProd", 1): one_axis,
    ("Squeeze", 1): axes_of_one,
    ("Unsqueeze", 1): new_axes,
    ("Pad", 1): padding,
    ("Pad", 3): some_axes,
    ("Slice", 1): slice_starts,
    ("Slice", 2): slice_ends,
    ("Slice", 3): some_axes,
    ("Slice", 4): span(1, 1),
    ("Split", 1): split_sizes,
    ("SplitToSequence", 1): sequence_split,
    ("Reshape", 1): target_shape,
    ("Expand", 1): broadcast_shape,
    ("ConstantOfShape", 0): span(1, 4),
    ("Resize", 1): crop_region,
    ("Resize", 2): scale_factors,
    ("Resize", 3): declared_shape(),
    ("Upsample", 1): scale_factors,
    ("CenterCropPad", 1): declared_shape(),
    ("AffineGrid", 1): grid_size,
    ("MaxUnpool", 1): unpool_index,
    ("MaxUnpool", 2): declared_shape(),
    ("Col2Im", 1): image_shape,
    ("Col2Im", 2): block_shape,
    ("NonMaxSuppression", 2): span(1, 5),
    ("NonMaxSuppression", 3): span(0, 0.9),
    ("NonMaxSuppression", 4): span(0, 0.2),
    ("Loop", 0): span(1, 5),
    ("Trilu", 1): span(0, 1),
    ("RoiAlign", 2): within("", 0),
    ("Dropout", 1): span(0, 0.5),
    ("DequantizeLinear", 2): span(0, 0),
    ("DFT", 1): signal_length,
    ("DFT", 2): signal_axis,
    ("STFT", 1): frame_step,
    ("STFT", 3): frame_length,
    ("BlackmanWindow", 0): span(2, 16),
    ("HammingWindow", 0): span(2, 16),
    ("HannWindow", 0): span(2, 16),
    ("MelWeightMatrix", 0): span(4, 8),
    ("MelWeightMatrix", 1): span(16, 32),
    ("MelWeightMatrix", 2): span(8000, 8192),
    ("MelWeightMatrix", 3): span(0, 1),
    ("MelWeightMatrix", 4): span(3000, 4000),
    **{(name, 1): some_axes for name in REDUCTIONS},
}
# Operands that mean an argument whatever their type; the others only where they are integers.
OF_ANY_TYPE = frozenset(
    (("Resize", 1), ("Resize", 2), ("Upsample", 1), ("NonMaxSuppression", 3), ("NonMaxSuppression", 4),
     ("Dropout", 1), ("Range", 0), ("Range", 1), ("Range", 2), ("MelWeightMatrix", 3), ("MelWeightMatrix", 4))
)  # fmt: skip


def proposals(readings: Sequence[Reading], *, integer: bool) -> list[Proposal]:
    """What all readers accept: ranges are narrowed to their common part, fixed values come first."""
    ranges: list[Proposal] = []
    fixed: list[Proposal] = []
    for reading in readings:
        key = (reading.node.op_type, reading.position)
        rule = ARGUMENTS.get(key) if integer or key in OF_ANY_TYPE else None
        if rule is None:
            continue
        why = f"{key[0]} {reading.node.name or reading.node.output[0]!r}"
        for found in rule(reading):
            made = Proposal(found.low, found.high, found.fixed, why)
            (ranges if found.fixed is None else fixed).append(made)
    if not ranges or fixed:
        return fixed + ranges
    low, high = max(r.low for r in ranges), min(r.high for r in ranges)
    common = [Proposal(low, high, None, min(ranges, key=lambda r: r.high).why)] if low <= high else []
    return [*common, *(r for r in ranges if (r.low, r.high) != (low, high))]
