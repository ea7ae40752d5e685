"""Arithmetic of permutations. `p` maps new axes to old ones: transpose(x, p) has axis j of x's axis p[j]."""

from __future__ import annotations

from collections.abc import Sequence

Perm = tuple[int, ...]


def identity(rank: int) -> Perm:
    """The permutation that moves nothing."""
    return tuple(range(rank))


def compose(first: Sequence[int], second: Sequence[int]) -> Perm:
    """transpose(transpose(x, first), second) = transpose(x, compose(first, second))."""
    return tuple(first[axis] for axis in second)


def inverse(perm: Sequence[int]) -> Perm:
    """transpose(transpose(x, p), inverse(p)) = x; also: where old axis a went is inverse(p)[a]."""
    result = [0] * len(perm)
    for new, old in enumerate(perm):
        result[old] = new
    return tuple(result)
