"""Values for inputs that are an operator's argument rather than data: indices, axes, shapes, lengths.

Such an input has few valid values, and what is valid depends on the shapes of the operands beside it. Each
entry of `ARGUMENTS` says, for one operand of one operator, which values the operator accepts, best first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

Shape = tuple[int, ...]
UNKNOWN = 0  # a dimension that shape inference did not settle


@dataclass(frozen=True)
class Proposal:
    """Either a range, both ends included, or the very values (in the input's shape once reshaped)."""

    low: float = 0
    high: float = 0
    fixed: np.ndarray | None = None
    why: str = ""


@dataclass(frozen=True)
class Reading:
    """One node that reads the input, by operand `position`; `own` is the input's own shape.

    shapes: by value name, as far as inference reaches. constants: small constants by value name.
    """

    node: onnx.NodeProto
    position: int
    own: Shape
    shapes: Mapping[str, Shape]
    constants: Callable[[str], np.ndarray | None]

    @property
    def count(self) -> int:
        """Number of elements of the input."""
        return math.prod(self.own)

    def shape(self, position: int = 0) -> Shape:
        """Shape of another operand; () where it is absent or unknown."""
        return self.shapes.get(self.node.input[position], ()) if position < len(self.node.input) else ()

    def output(self, position: int = 0) -> Shape:
        """Shape of an output; () where it is unknown."""
        return self.shapes.get(self.node.output[position], ()) if position < len(self.node.output) else ()

    def constant(self, position: int) -> np.ndarray | None:
        """Value of another operand where it is a constant."""
        present = position < len(self.node.input) and self.node.input[position]
        return self.constants(self.node.input[position]) if present else None

    def get(self, name: str, default: Any) -> Any:
        """An attribute's value, or the default."""
        for item in self.node.attribute:
            if item.name == name:
                return helper.get_attribute_value(item)
        return default

    def dim(self, axis: int, position: int = 0) -> int:
        """One dimension of an operand, at least 1."""
        shape = self.shape(position)
        return max(1, shape[axis]) if -len(shape) <= axis < len(shape) else 1


Proposals = Iterator[Proposal]
Rule = Callable[[Reading], Proposals]


def span(low: float, high: float) -> Rule:
    """Any value of a fixed range."""
    return lambda reading: iter([Proposal(low, max(low, high))])


def within(axis: str = "axis", default: int = 0, least: int = 0, past: int = 0, position: int = 0) -> Rule:
    """From `least` to the last index (plus `past`) of the axis that an attribute names."""

    def rule(reading: Reading) -> Proposals:
        size = reading.dim(reading.get(axis, default), position)
        yield Proposal(least, max(least, size - 1 + past))

    return rule


def nd_index(reading: Reading) -> Proposals:
    """GatherND, ScatterND: each column indexes an axis of its own; the shortest of them bounds all."""
    shape = reading.shape()[reading.get("batch_dims", 0) :]
    depth = reading.own[-1] if reading.own else 1
    yield Proposal(0, max(0, min((d for d in shape[:depth] if d), default=1) - 1))


def class_index(reading: Reading) -> Proposals:
    """Labels of a loss: as many classes as axis 1 of the scores."""
    yield Proposal(0, reading.dim(1) - 1)


def one_axis(reading: Reading) -> Proposals:
    """An axis number."""
    yield Proposal(0, max(0, len(reading.shape()) - 1))


def some_axes(reading: Reading) -> Proposals:
    """As many different axes as the input has elements: the first ones, then the last ones."""
    rank, count = len(reading.shape()), reading.count
    for start in dict.fromkeys((max(0, rank - count), 0)):
        yield Proposal(fixed=np.arange(start, start + count))


def axes_of_one(reading: Reading) -> Proposals:
    """Squeeze: axes of length 1, or that may be."""
    shape = reading.shape()
    ones = [i for i, size in enumerate(shape) if size in (1, UNKNOWN)]
    yield Proposal(fixed=np.array(ones[: reading.count], np.int64))


def new_axes(reading: Reading) -> Proposals:
    """Unsqueeze: the leading axes of the result."""
    yield Proposal(fixed=np.arange(reading.count))


def target_shape(reading: Reading) -> Proposals:
    """Reshape: the declared result where the sizes agree, else one long axis among ones."""
    elements, count, declared = math.prod(reading.shape()), reading.count, reading.output()
    if len(declared) == count and math.prod(declared) == elements and all(declared):
        yield Proposal(fixed=np.array(declared))
    yield Proposal(fixed=np.array([-1, *[1] * (count - 1)][:count]))
    yield Proposal(fixed=np.array([elements, *[1] * (count - 1)][:count]))
    yield Proposal(fixed=np.zeros(count))


def broadcast_shape(reading: Reading) -> Proposals:
    """Expand: the declared result, else the operand's own shape, right-aligned."""
    declared, own, count = reading.output(), reading.shape(), reading.count
    if len(declared) == count and all(declared):
        yield Proposal(fixed=np.array(declared))
    padded = [*[2] * max(0, count - len(own)), *(max(1, d) for d in own)]
    yield Proposal(fixed=np.array(padded[len(padded) - count :]))
    yield Proposal(1, 1)


def declared_shape(skip: int = 0) -> Rule:
    """The sizes that the output declares, from axis `skip` on; else those of the operand; else 2."""

    def rule(reading: Reading) -> Proposals:
        for shape in (reading.output(), reading.shape()):
            wanted = shape[skip:]
            if len(wanted) == reading.count and all(wanted):
                yield Proposal(fixed=np.array(wanted))
        axes = reading.get("axes", None)
        for shape in (reading.output(), reading.shape()):
            if axes is not None and shape and max(axes) < len(shape):
                yield Proposal(fixed=np.array([max(1, shape[axis]) for axis in axes]))
        yield Proposal(2, 2)

    return rule


def grid_size(reading: Reading) -> Proposals:
    """AffineGrid: (N, C, spatial dims); the result is (N, spatial dims, rank)."""
    batch, declared = reading.dim(0), reading.output()
    spatial = declared[1:-1] if len(declared) == reading.count - 0 and all(declared) else ()
    spatial = spatial or (4,) * (reading.count - 2)
    yield Proposal(fixed=np.array([batch, 3, *spatial]))


def scale_factors(reading: Reading) -> Proposals:
    """Resize, Upsample: declared result over operand, else 2 on all but the first two axes."""
    shape, declared, count = reading.shape(), reading.output(), reading.count
    axes = reading.get("axes", None) or range(len(shape))
    if len(declared) == len(shape) and all(declared) and all(shape) and len(axes) == count:
        yield Proposal(fixed=np.array([(declared[a] + 0.0) / shape[a] for a in axes]))
    yield Proposal(fixed=np.array([1.0, 1.0, *[2.0] * max(0, count - 2)][:count]))
    yield Proposal(1, 1)


def crop_region(reading: Reading) -> Proposals:
    """Resize: starts, then ends, as shares of each axis."""
    half = reading.count // 2
    yield Proposal(fixed=np.array([0.25] * half + [0.75] * (reading.count - half)))


def split_sizes(reading: Reading) -> Proposals:
    """Split: the declared results' sizes, else equal parts."""
    axis, count = reading.get("axis", 0), reading.count
    declared = [shape[axis] for i in range(count) if len(shape := reading.output(i)) > abs(axis)]
    total = reading.dim(axis)
    if len(declared) == count and sum(declared) == total:
        yield Proposal(fixed=np.array(declared))
    even = [total // count + (i < total % count) for i in range(count)] if count else []
    yield Proposal(fixed=np.array(even, np.int64))


def sequence_split(reading: Reading) -> Proposals:
    """SplitToSequence: one size for all, or a size for each."""
    if reading.own:
        yield from split_sizes(reading)
    else:
        yield Proposal(1, reading.dim(reading.get("axis", 0)))


def top_count(reading: Reading) -> Proposals:
    """TopK: no more than the axis holds."""
    yield Proposal(1, reading.dim(reading.get("axis", -1)))


def slice_starts(reading: Reading) -> Proposals:
    """Slice: the beginning."""
    yield Proposal(0, 0)


def slice_ends(reading: Reading) -> Proposals:
    """Slice: anything behind the beginning."""
    yield Proposal(1, max(1, min((d for d in reading.shape() if d), default=1)))


def padding(reading: Reading) -> Proposals:
    """Pad: less than the axis, which reflection asks for."""
    smallest = min((d for d in reading.shape() if d), default=1)
    for least in (0, 1):
        if smallest > least:
            yield Proposal(0, min(2, smallest - 1))
    yield Proposal(0, 0)
    half = reading.count // 2
    spatial = [int(i % max(1, half) >= 2) for i in range(reading.count)]
    yield Proposal(fixed=np.array(spatial))


def depth_of_one_hot(reading: Reading) -> Proposals:
    """OneHot: the declared size of the new axis, else 10."""
    declared, axis = reading.output(), reading.get("axis", -1)
    size = declared[axis] if declared and declared[axis] else 10
    yield Proposal(size, size)


def one_hot_index(reading: Reading) -> Proposals:
    """OneHot: below the depth, where it is known."""
    depth = reading.constant(1)
    declared, axis = reading.output(), reading.get("axis", -1)
    size = int(depth.ravel()[0]) if depth is not None and depth.size else declared[axis] if declared else 10
    yield Proposal(0, max(1, size) - 1)


def signal_axis(reading: Reading) -> Proposals:
    """DFT: between the batch and the complex axis."""
    yield Proposal(1, max(1, len(reading.shape()) - 2))


def signal_length(reading: Reading) -> Proposals:
    """DFT: the signal's own length, never 0."""
    size = reading.dim(reading.get("axis", 1))
    yield Proposal(size, size)


def frame_length(reading: Reading) -> Proposals:
    """STFT: from 1 to the signal's length; 0 ends the process."""
    window, signal = reading.shape(2), reading.dim(1)
    size = window[0] if window and window[0] else max(1, min(16, signal))
    yield Proposal(size, size)


def frame_step(reading: Reading) -> Proposals:
    """STFT: at least 1."""
    yield Proposal(1, max(1, min(8, reading.dim(1) // 2)))


def steps_of_time(axis: int) -> Rule:
    """Lengths of sequences: from 1 to the whole, else the whole."""

    def rule(reading: Reading) -> Proposals:
        size = reading.dim(axis)
        yield Proposal(1, size)
        yield Proposal(size, size)

    return rule


def unpool_index(reading: Reading) -> Proposals:
    """MaxUnpool: positions in the result, which is at least as large as the operand."""
    yield Proposal(fixed=np.arange(reading.count))


def image_shape(reading: Reading) -> Proposals:
    """Col2Im: the spatial sizes of the result, and blocks that fit them."""
    yield from (Proposal(fixed=np.array(image)) for image, _ in column_layouts(reading))


def block_shape(reading: Reading) -> Proposals:
    """Col2Im: see `image_shape`."""
    yield from (Proposal(fixed=np.array(block)) for _, block in column_layouts(reading))


def column_layouts(reading: Reading) -> Iterator[tuple[Shape, Shape]]:
    """(image, block) of Col2Im such that the operand (N, C x prod(block), L) has one column a position."""
    columns, rank = reading.shape(), reading.count
    if len(columns) != 3 or not all(columns):
        return
    pads = reading.get("pads", [0] * (2 * rank))
    strides, dilations = reading.get("strides", [1] * rank), reading.get("dilations", [1] * rank)
    declared = reading.output()[2:]
    sides = range(1, 13)
    images = [declared] if len(declared) == rank and all(declared) else itertools.product(sides, repeat=rank)
    for image in itertools.islice(images, 2000):
        for block in itertools.product(range(1, 6), repeat=rank):
            if columns[1] % math.prod(block):
                continue
            places = [
                (image[i] + pads[i] + pads[i + rank] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1
                for i in range(rank)
            ]
            if min(places) > 0 and math.prod(places) == columns[2]:
                yield tuple(image), block


def shift_bits(reading: Reading) -> Proposals:
    """BitShift: fewer than the narrowest integer has."""
    yield Proposal(0, 7)


def write_position(reading: Reading) -> Proposals:
    """TensorScatter: so that the update fits behind it."""
    axis = reading.get("axis", -2)
    yield Proposal(0, max(0, reading.dim(axis) - reading.dim(axis, 1)))


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
