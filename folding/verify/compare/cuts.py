"""Values that both graphs compute, where the comparison layer by layer cuts them.

A cut whose value the artifact computes in another layout (NHWC, NCHW) is compared through the axis order. A
name may mean something else in the artifact (the output of a conv that took its batch norm): such a cut is
far off from the start and not used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from folding.ir.types import Feeds
from folding.report import DriftRow
from folding.verify.model import Loaded

ALIGNED = 1e-2  # root mean square distance, relative, within which a shared name means the same value


@dataclass(frozen=True)
class Cut:
    """A shared value. perm: axes of the source's value in the artifact's order, None for the same order."""

    name: str
    declared: bool
    perm: tuple[int, ...] | None = None

    def theirs(self, value: np.ndarray) -> np.ndarray:
        """The source's value as the artifact lays it out."""
        return value if self.perm is None else np.ascontiguousarray(value.transpose(self.perm))

    def ours(self, value: np.ndarray) -> np.ndarray:
        """Return the artifact's value as the source lays it out."""
        return value if self.perm is None else value.transpose(np.argsort(self.perm))


def dtypes(values: Feeds) -> dict[str, np.dtype[Any]]:
    """dtype of each array."""
    return {name: array.dtype for name, array in values.items()}


def floats(values: Feeds) -> Feeds:
    """The floating-point arrays."""
    return {name: array for name, array in values.items() if array.dtype.kind == "f" and array.size}


def shared_values(
    source: Loaded, artifact: Loaded, sites: Sequence[str], feeds: Feeds, limit: int
) -> list[str]:
    """Names that both graphs compute: fold sites first, then other values, while they fit in memory."""
    batch = max((array.shape[0] for array in feeds.values() if array.ndim), default=1)
    sizes = value_bytes(source, batch)
    both = [name for name in source.produced if name in artifact.produced and name not in source.outputs]
    chosen: list[str] = []
    used = 0
    for name in [*(n for n in both if n in set(sites)), *preferred(source, both, set(sites))]:
        size = sizes.get(name, 4 << 20)
        if used + size <= limit:
            used += size
            chosen.append(name)
    return chosen


def preferred(source: Loaded, names: Iterable[str], taken: set[str]) -> list[str]:
    """Block boundaries before the rest: activations and sums, then what is left."""
    ends = {
        "Relu",
        "Add",
        "Clip",
        "LeakyRelu",
        "Sigmoid",
        "Tanh",
        "Concat",
        "Softmax",
        "PRelu",
        "Elu",
        "MaxPool",
    }
    rest = [name for name in names if name not in taken]
    return sorted(rest, key=lambda name: source.produced[name].op_type not in ends)


def value_bytes(source: Loaded, batch: int) -> dict[str, int]:
    """Estimated size of inner values, from the shapes that the file carries (dynamic dims: batch, then 1)."""
    sizes = {}
    for value in source.proto.graph.value_info:
        dims = value.type.tensor_type.shape.dim
        shape = [d.dim_value if d.dim_value > 0 else (batch if i == 0 else 1) for i, d in enumerate(dims)]
        sizes[value.name] = 4 * int(np.prod(shape, dtype=np.int64))
    return sizes


def alignment(mine: np.ndarray, theirs: np.ndarray) -> tuple[int, ...] | None:
    """The axis order in which `mine` is `theirs`, up to ALIGNED; None when there is none."""
    if sorted(mine.shape) != sorted(theirs.shape):
        return None
    identity = tuple(range(mine.ndim))
    if mine.shape == theirs.shape and near(mine, theirs):
        return identity
    if not 3 <= mine.ndim <= 5:
        return None
    first, last = (0, mine.ndim - 1, *range(1, mine.ndim - 1)), (0, *range(2, mine.ndim), 1)
    for perm in (first, last):
        if mine.transpose(perm).shape == theirs.shape and near(mine.transpose(perm), theirs):
            return perm
    return None


def near(a: np.ndarray, b: np.ndarray) -> bool:
    """Root mean square distance within ALIGNED of the root mean square of `a`, finite elements only."""
    with np.errstate(all="ignore"):
        gap, size = np.subtract(a, b, dtype=np.float32), np.asarray(a, np.float32)
        ok = np.isfinite(gap) & np.isfinite(size)
        if not ok.all():
            gap, size = gap[ok], size[ok]
        error, power = float(np.vdot(gap, gap)), float(np.vdot(size, size))
    return error <= ALIGNED**2 * power if np.isfinite(power) else False


def drift_row(cut: Cut, mine: np.ndarray, theirs: np.ndarray) -> DriftRow:
    """Error of the free-running artifact at one value."""
    if cut.perm is not None:
        theirs = theirs.transpose(np.argsort(cut.perm))
    with np.errstate(all="ignore"):
        gap, size = np.abs(mine - theirs), np.abs(mine)
    gap, size = gap[np.isfinite(gap)], size[np.isfinite(size)]
    error, scale = float(gap.max(initial=0)), float(size.max(initial=0))
    return DriftRow(value=cut.name, max_abs=error, max_rel=error / scale if scale else 0.0, scale=scale)
