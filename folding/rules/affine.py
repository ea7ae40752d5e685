"""`y = scale * x + shift`, the one thing that moves.

scale, shift: float64 arrays of equal shape with the rank of the value that they apply to; each dimension is
1 (the same for all) or the value's own. A batch norm over NCHW is (1, C, 1, 1). Keeping the full rank makes
every channel-transparent node a plain array operation: Transpose transposes the two arrays, Concat slices
them, Reshape reshapes them, and an absorber only asks whether one axis is left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from folding.ir.types import Float64Array
from folding.norms.base import ChannelAffine


@dataclass(frozen=True, eq=False)
class Affine:
    """See the module. Build with `Affine.of`, which broadcasts the two arrays against each other."""

    scale: Float64Array
    shift: Float64Array

    @staticmethod
    def of(scale: Float64Array, shift: Float64Array) -> Affine:
        """From two arrays of one rank."""
        shape = np.broadcast_shapes(scale.shape, shift.shape)
        return Affine(np.broadcast_to(scale, shape), np.broadcast_to(shift, shape))

    @staticmethod
    def from_channels(affine: ChannelAffine, rank: int) -> Affine:
        """A ChannelAffine on a value of `rank` dimensions."""
        shape = [1] * rank
        if affine.axis is not None:
            shape[affine.axis] = -1
        return Affine.of(affine.scale.reshape(shape), affine.shift.reshape(shape))

    @property
    def rank(self) -> int:
        """Rank of the value that this applies to."""
        return self.scale.ndim

    @property
    def has_shift(self) -> bool:
        """Whether any element is shifted."""
        return bool(np.any(self.shift))

    @property
    def has_scale(self) -> bool:
        """Whether any element is scaled."""
        return bool(np.any(self.scale != 1.0))

    @property
    def non_negative(self) -> bool:
        """Whether no scale is below zero (then it commutes with max and with ReLU)."""
        return bool(np.all(self.scale >= 0.0))

    @property
    def finite(self) -> bool:
        """Whether all numbers are."""
        return bool(np.isfinite(self.scale).all() and np.isfinite(self.shift).all())

    def then(self, after: Affine) -> Affine:
        """Apply `self`, then `after`."""
        return Affine.of(after.scale * self.scale, after.scale * self.shift + after.shift)

    def map(self, rearrange: Callable[[Float64Array], Float64Array]) -> Affine:
        """The same rearrangement of both arrays."""
        return Affine(rearrange(self.scale), rearrange(self.shift))

    def scale_only(self) -> Affine:
        """Without the shift."""
        return Affine(self.scale, np.zeros_like(self.shift)).compressed()

    def shift_only(self) -> Affine:
        """Without the scale."""
        return Affine(np.ones_like(self.scale), self.shift).compressed()

    def varying(self) -> tuple[int, ...]:
        """Axes along which the numbers may differ."""
        return tuple(axis for axis, size in enumerate(self.scale.shape) if size != 1)

    def compressed(self) -> Affine:
        """Every axis along which all numbers are equal reduced to 1."""
        result = self
        for axis in self.varying():
            first = result.map(lambda array, axis=axis: array.take([0], axis=axis))  # type: ignore[misc]
            if np.all(result.scale == first.scale) and np.all(result.shift == first.shift):
                result = first
        return result

    def vector(self, axis: int, size: int) -> tuple[Float64Array, Float64Array] | None:
        """The two arrays as (size,) along `axis`; None when they vary along any other axis."""
        if any(other != axis for other in self.varying()):
            return None
        if self.scale.shape[axis] not in (1, size):
            return None
        return np.broadcast_to(self.scale.reshape(-1), (size,)), np.broadcast_to(
            self.shift.reshape(-1), (size,)
        )
