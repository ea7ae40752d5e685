"""Convolutions and pools on arrays of shape (N, C, *spatial).

Conv: Y = W (M, C/group, K) @ columns (C/group * K, P) per group, one matrix product where the columns fit in
memory, else one per kernel position.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from folding.ir.evaluate.arithmetic import Kernel, over
from folding.ir.evaluate.dtypes import is_float, is_integer, is_rational
from folding.ir.evaluate.view import NodeView, NotEvaluatedError
from folding.ir.types import Array

COLUMN_BYTES = 96 << 20
MAX_POSITIONS = 1 << 16  # elements of one kernel window
Cut = tuple[Any, ...]


@dataclass(frozen=True)
class Geometry:
    """Where the windows of a convolution or a pool lie. All lists have one number for each spatial axis."""

    kernel: tuple[int, ...]
    strides: list[int]
    dilations: list[int]
    begins: list[int]
    ends: list[int]
    out: tuple[int, ...]

    @property
    def extents(self) -> list[int]:
        """What a window covers of each axis."""
        return [d * (k - 1) + 1 for d, k in zip(self.dilations, self.kernel, strict=True)]

    def covered_ends(self, spatial: Sequence[int]) -> list[int]:
        """Return the padding at each end with which every window (of ceil_mode too) lies inside."""
        needed = [
            (n - 1) * s + extent - size - begin
            for n, s, extent, size, begin in zip(
                self.out, self.strides, self.extents, spatial, self.begins, strict=True
            )
        ]
        return [max(end, need) for end, need in zip(self.ends, needed, strict=True)]

    def cuts(self) -> list[Cut]:
        """Return for every kernel position the slice of the padded input that it is multiplied with."""
        return [
            (
                slice(None),
                slice(None),
                *(
                    slice(o * d, o * d + s * (n - 1) + 1, s)
                    for o, d, s, n in zip(offset, self.dilations, self.strides, self.out, strict=True)
                ),
            )
            for offset in itertools.product(*(range(k) for k in self.kernel))
        ]


def geometry(view: NodeView, kernel: Sequence[int]) -> Geometry:
    """Return the windows of a node. Raises NotEvaluatedError where none fits."""
    spatial = view.x.shape[2:]
    rank = len(spatial)
    strides, dilations = [int(s) for s in view.get("strides", [1] * rank)], [
        int(d) for d in view.get("dilations", [1] * rank)
    ]  # fmt: skip
    if rank == 0 or any(len(part) != rank for part in (kernel, strides, dilations)):
        raise NotEvaluatedError(f"{view.op_type}: attributes do not fit a rank of {view.x.ndim}")
    if min(*strides, *dilations, *kernel) < 1 or math.prod(kernel) > MAX_POSITIONS:
        raise NotEvaluatedError(f"{view.op_type}: windows of {list(kernel)}")
    extents = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    begins, ends = window_pads(view, spatial, strides, extents)
    room = [size + b + e - x for size, b, e, x in zip(spatial, begins, ends, extents, strict=True)]
    if min(room) < 0:
        raise NotEvaluatedError(f"{view.op_type}: a window of {extents} on {list(spatial)}")
    out = [left // s + 1 for left, s in zip(room, strides, strict=True)]
    if view.flag("ceil_mode") and view.get("auto_pad", "NOTSET") not in ("SAME_UPPER", "SAME_LOWER"):
        for i, (left, s) in enumerate(zip(room, strides, strict=True)):
            out[i] = -(-left // s) + 1
            if (out[i] - 1) * s >= spatial[i] + begins[i]:  # a window begins inside, not on the padding
                out[i] -= 1
    return Geometry(tuple(kernel), strides, dilations, begins, ends, tuple(out))


def window_pads(
    view: NodeView, spatial: Sequence[int], strides: list[int], extents: list[int]
) -> tuple[list[int], list[int]]:
    """Return the padding at the begin and the end of each axis, stated or by `auto_pad`."""
    rank, auto = len(spatial), view.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        pads = [int(p) for p in view.get("pads", [0] * 2 * rank)]
        if len(pads) != 2 * rank or min(pads) < 0:
            raise NotEvaluatedError(f"{view.op_type}: pads {pads}")
        return pads[:rank], pads[rank:]
    begins, ends = [0] * rank, [0] * rank
    for i in range(rank if auto in ("SAME_UPPER", "SAME_LOWER") else 0):
        total = max(0, (-(-spatial[i] // strides[i]) - 1) * strides[i] + extents[i] - spatial[i])
        small, large = total // 2, total - total // 2
        begins[i], ends[i] = (small, large) if auto == "SAME_UPPER" else (large, small)
    return begins, ends


def padded(view: NodeView, x: Array, begins: list[int], ends: list[int], value: Any = 0) -> Array:
    """Return x with its spatial axes padded."""
    if not any(begins) and not any(ends):
        return x
    view.allow(size + b + e for size, b, e in zip(x.shape[2:], begins, ends, strict=True))
    return np.pad(x, [(0, 0), (0, 0), *zip(begins, ends, strict=True)], constant_values=value)


def conv(view: NodeView) -> Array:
    """Conv of any rank, with groups, dilations, auto_pad."""
    x, w, group = view.x, view.input(1), int(view.get("group", 1))
    n, m = x.shape[0], w.shape[0]
    if w.ndim != x.ndim or w.shape[1] * group != x.shape[1] or m % group:
        raise NotEvaluatedError(f"Conv: weights {w.shape} on {x.shape} in {group} groups")
    windows = geometry(view, w.shape[2:])
    view.allow((n, m, *windows.out))
    y = products(padded(view, x, windows.begins, windows.ends), w, group, windows)
    return add_bias(y.reshape(n, m, *windows.out), view.optional(2))


def products(x: Array, w: Array, group: int, windows: Geometry) -> Array:
    """Return the sums over kernel positions and channels for padded x, in a shape that holds (N, M, P)."""
    cuts, out, per_group = windows.cuts(), windows.out, w.shape[1]
    n, m, points, dtype = x.shape[0], w.shape[0], math.prod(windows.out), np.result_type(x, w)
    flat = w.reshape(group, m // group, per_group, len(cuts))
    if per_group == 1 and m == group:
        y = np.zeros((n, m, *out), dtype)
        for i, cut in enumerate(cuts):
            y += x[cut] * flat[:, 0, 0, i].reshape(-1, *[1] * len(out))
        return y
    if len(cuts) == 1 or 8 * x.shape[1] * len(cuts) * points * n > COLUMN_BYTES:
        y = np.zeros((n, group, m // group, points), dtype)
        for i, cut in enumerate(cuts):
            y += flat[..., i] @ x[cut].reshape(n, group, per_group, points)
        return y
    columns = np.empty((n, group, per_group, len(cuts), points), x.dtype)
    for i, cut in enumerate(cuts):
        columns[:, :, :, i] = x[cut].reshape(n, group, per_group, points)
    return np.asarray(flat.reshape(group, m // group, -1) @ columns.reshape(n, group, -1, points))


def add_bias(y: Array, bias: Array | None) -> Array:
    """Return y + bias on the channel axis."""
    return y if bias is None else np.asarray(y + bias.reshape(-1, *[1] * (y.ndim - 2)))


def conv_transpose(view: NodeView) -> Array:
    """ConvTranspose of any rank: scatter W^T x over the kernel positions, then crop."""
    x, w, group = view.x, view.input(1), int(view.get("group", 1))
    kernel, spatial, rank = w.shape[2:], x.shape[2:], x.ndim - 2
    strides, dilations = list(view.get("strides", [1] * rank)), list(view.get("dilations", [1] * rank))
    extra = list(view.get("output_padding", [0] * rank))
    if rank < 1 or w.ndim != x.ndim or w.shape[0] != x.shape[1] or x.shape[1] % group:
        raise NotEvaluatedError(f"ConvTranspose: weights {w.shape} on {x.shape} in {group} groups")
    if min(*strides, *dilations, *kernel) < 1 or min(extra) < 0 or math.prod(kernel) > MAX_POSITIONS:
        raise NotEvaluatedError(f"ConvTranspose: windows of {list(kernel)}")
    full = [
        s * (n - 1) + d * (k - 1) + 1 + e
        for s, n, d, k, e in zip(strides, spatial, dilations, kernel, extra, strict=True)
    ]
    n, per_group = x.shape[0], w.shape[1]
    view.allow((n, group * per_group, *full))
    begins, ends = transpose_pads(view, full, strides, spatial)
    xg = x.reshape(n, group, -1, math.prod(spatial))
    wg = w.reshape(group, -1, per_group, math.prod(kernel))
    y = np.zeros((n, group * per_group, *full), np.result_type(x, w))
    for i, offset in enumerate(itertools.product(*(range(k) for k in kernel))):
        part = (wg[..., i].swapaxes(1, 2) @ xg).reshape(n, group * per_group, *spatial)
        cut = [
            slice(o * d, o * d + s * (size - 1) + 1, s)
            for o, d, s, size in zip(offset, dilations, strides, spatial, strict=True)
        ]
        y[(slice(None), slice(None), *cut)] += part
    return add_bias(_cropped(y, begins, ends), view.optional(2))


def _cropped(y: Array, begins: list[int], ends: list[int]) -> Array:
    """Return y without what the pads take away; a negative pad (of a larger `output_shape`) adds zeros."""
    grown = [(max(-b, 0), max(-e, 0)) for b, e in zip(begins, ends, strict=True)]
    if any(map(any, grown)):
        y = np.pad(y, [(0, 0), (0, 0), *grown])
    crop = [
        slice(max(b, 0), y.shape[2 + i] - max(e, 0))
        for i, (b, e) in enumerate(zip(begins, ends, strict=True))
    ]
    return y[(slice(None), slice(None), *crop)]


def transpose_pads(
    view: NodeView, full: list[int], strides: list[int], spatial: tuple[int, ...]
) -> tuple[list[int], list[int]]:
    """Return what to crop at the begin and the end of each axis."""
    rank = len(full)
    auto, stated = view.get("auto_pad", "NOTSET"), view.get("output_shape")
    if stated is None and auto in ("NOTSET", "", "VALID"):
        pads = [int(p) for p in view.get("pads", [0] * 2 * rank)] if auto != "VALID" else [0] * 2 * rank
        return pads[:rank], pads[rank:]
    wanted = (
        list(stated)[-rank:] if stated is not None else [s * n for s, n in zip(strides, spatial, strict=True)]
    )
    totals = [size - int(want) for size, want in zip(full, wanted, strict=True)]
    if min(totals) < 0:
        raise NotEvaluatedError("ConvTranspose to a larger shape than its windows reach: runtimes disagree")
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return (small, large) if auto == "SAME_UPPER" else (large, small)


def pool_windows(view: NodeView) -> Geometry:
    """Return the windows of a pool."""
    if is_integer(view.x.dtype) and view.op_type != "MaxPool":
        raise NotEvaluatedError(f"{view.op_type} of {view.x.dtype}")
    windows = geometry(view, [int(k) for k in view.get("kernel_shape")])
    view.allow((*view.x.shape[:2], *windows.out))
    if any(b >= x or e >= x for b, e, x in zip(windows.begins, windows.ends, windows.extents, strict=True)):
        raise NotEvaluatedError(f"{view.op_type}: windows that lie on padding only")
    return windows


def average_pool(view: NodeView) -> Array:
    """AveragePool: a window is divided by what it covers of the input, or of the padded input."""
    x, windows = view.x, pool_windows(view)
    ends = windows.covered_ends(x.shape[2:])
    total = _sum_of(padded(view, x, windows.begins, ends), windows.cuts())
    counted = np.ones((1, 1, *x.shape[2:]), np.int64)
    if view.flag("count_include_pad"):
        counted = padded(view, counted, windows.begins, windows.ends, 1)
        counted = padded(
            view, counted, [0] * len(ends), [b - a for a, b in zip(windows.ends, ends, strict=True)]
        )
    else:
        counted = padded(view, counted, windows.begins, ends)
    return over(total, _sum_of(counted, windows.cuts()))


def _sum_of(x: Array, cuts: list[Cut]) -> Array:
    total = x[cuts[0]].copy()
    for cut in cuts[1:]:
        total += x[cut]
    return total


def max_pool(view: NodeView) -> Array | tuple[Array, Array]:
    """MaxPool, and where asked for the index of each maximum in the flattened input."""
    x, windows = view.x, pool_windows(view)
    if is_float(x.dtype) and np.isnan(x.astype(np.float64)).any():
        raise NotEvaluatedError("MaxPool with NaN")
    ends = windows.covered_ends(x.shape[2:])
    wide = padded(view, x, windows.begins, ends, lowest(x))
    cuts = windows.cuts()
    y = wide[cuts[0]].copy()
    if not view.wants(1):
        for cut in cuts[1:]:
            np.maximum(y, wide[cut], out=y)
        return y
    numbers = padded(view, _numbers(view), windows.begins, ends, -1)
    chosen = numbers[cuts[0]].copy()
    for cut in cuts[1:]:
        better = (numbers[cut] >= 0) & ((wide[cut] > y) | (chosen < 0))
        y, chosen = np.where(better, wide[cut], y), np.where(better, numbers[cut], chosen)
    return y, chosen.astype(np.int64)


def _numbers(view: NodeView) -> Array:
    """Return each element's index in the flattened input, its last axes row by row or (storage_order) not."""
    shape = view.x.shape
    space, order = math.prod(shape[2:]), "F" if view.flag("storage_order") else "C"
    inner = np.arange(space).reshape(shape[2:], order=order)  # type: ignore[call-overload]
    outer = np.arange(shape[0] * shape[1]).reshape(*shape[:2], *[1] * (len(shape) - 2)) * space
    return np.asarray(outer + inner)


def lowest(x: Array) -> Any:
    """Return what no maximum is smaller than."""
    if is_rational(x):
        return min(x.flat) - 1
    return -np.inf if is_float(x.dtype) else np.iinfo(x.dtype).min


def lp_pool(view: NodeView) -> Array:
    """LpPool: the p-norm of each window."""
    x, p, windows = view.x, int(view.get("p", 2)), pool_windows(view)
    if is_rational(x) or p < 1:
        raise NotEvaluatedError("LpPool of rationals")
    ends = windows.covered_ends(x.shape[2:])
    return _sum_of(padded(view, np.abs(x) ** p, windows.begins, ends), windows.cuts()) ** (1.0 / p)


def of_floats(kernel: Callable[[NodeView], Array]) -> Kernel:
    """Return the kernel, refusing integer convolutions."""

    def run(view: NodeView) -> Array:
        if is_integer(view.x.dtype):
            raise NotEvaluatedError(f"{view.op_type} of {view.x.dtype}")
        return kernel(view)

    return run


KERNELS: dict[str, Kernel] = {
    "AveragePool": average_pool,
    "Conv": of_floats(conv),
    "ConvTranspose": of_floats(conv_transpose),
    "LpPool": lp_pool,
    "MaxPool": max_pool,
}
