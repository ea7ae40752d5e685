"""The channel axis of a norm that is measured or rewritten."""

from __future__ import annotations

from folding.norms.base import BatchNorm


def axis_of(norm: BatchNorm) -> int:
    """The channel axis, counted from the front, of a norm whose input's rank is known."""
    assert norm.input is not None
    assert norm.input.shape is not None
    axis = named_axis(norm)
    assert axis is not None
    return axis % len(norm.input.shape)


def named_axis(norm: BatchNorm) -> int | None:
    """The channel axis, from the source where one channel leaves the graph none to tell."""
    if norm.channel_axis is None and norm.hint is not None:
        return norm.hint.channel_axis
    return norm.channel_axis
