"""Values for arguments that are indices, positions, counts and lengths."""

from __future__ import annotations

import numpy as np

from folding.verify.probes.operator_reading import Proposal, Proposals, Reading, Rule


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


def top_count(reading: Reading) -> Proposals:
    """TopK: no more than the axis holds."""
    yield Proposal(1, reading.dim(reading.get("axis", -1)))


def slice_starts(reading: Reading) -> Proposals:
    """Slice: the beginning."""
    yield Proposal(0, 0)


def slice_ends(reading: Reading) -> Proposals:
    """Slice: anything behind the beginning."""
    yield Proposal(1, max(1, min((d for d in reading.shape() if d), default=1)))


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


def shift_bits(reading: Reading) -> Proposals:
    """BitShift: fewer than the narrowest integer has."""
    yield Proposal(0, 7)


def write_position(reading: Reading) -> Proposals:
    """TensorScatter: so that the update fits behind it."""
    axis = reading.get("axis", -2)
    yield Proposal(0, max(0, reading.dim(axis) - reading.dim(axis, 1)))
