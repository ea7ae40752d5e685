"""Values for arguments that are shapes, axes, sizes and pads."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from folding.verify.probes.operator_reading import UNKNOWN, Proposal, Proposals, Reading, Rule, Shape


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
