"""Convolutions and pools on float64 arrays of shape (N, C, *spatial).

Conv: Y = W (M, C/group, K) @ columns (C/group * K, P) per group, one matrix product where the columns fit in
memory, else one per kernel position.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from folding.verify.float64.node import Node

Array = np.ndarray
COLUMN_BYTES = 96 << 20


def geometry(node: Node, spatial: tuple[int, ...], kernel: tuple[int, ...]) -> tuple[list[int], ...]:
    """strides, dilations, pads (begins), pads (ends) for a conv or pool."""
    rank = len(spatial)
    strides, dilations = list(node.get("strides", [1] * rank)), list(node.get("dilations", [1] * rank))
    auto = node.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        pads = list(node.get("pads", [0] * 2 * rank))
        return strides, dilations, pads[:rank], pads[rank:]
    begins, ends = [0] * rank, [0] * rank
    for i in range(rank if auto != "VALID" else 0):
        extent = dilations[i] * (kernel[i] - 1) + 1
        total = max(0, (math.ceil(spatial[i] / strides[i]) - 1) * strides[i] + extent - spatial[i])
        small, large = total // 2, total - total // 2
        begins[i], ends[i] = (small, large) if auto == "SAME_UPPER" else (large, small)
    return strides, dilations, begins, ends


def padded(x: Array, begins: list[int], ends: list[int], value: float = 0.0) -> Array:
    """x with its spatial axes padded."""
    if not any(begins) and not any(ends):
        return x
    return np.pad(x, [(0, 0), (0, 0), *zip(begins, ends, strict=True)], constant_values=value)


def positions(
    x: Array, kernel: tuple[int, ...], strides: list[int], dilations: list[int]
) -> tuple[list[tuple[Any, ...]], tuple[int, ...]]:
    """A slice of padded x for every kernel position, and the output's spatial shape."""
    spatial = x.shape[2:]
    out = tuple(
        (size - d * (k - 1) - 1) // s + 1
        for size, k, s, d in zip(spatial, kernel, strides, dilations, strict=True)
    )
    found = []
    for offset in itertools.product(*(range(k) for k in kernel)):
        cut = [
            slice(o * d, o * d + s * (n - 1) + 1, s)
            for o, d, s, n in zip(offset, dilations, strides, out, strict=True)
        ]
        found.append((slice(None), slice(None), *cut))
    return found, out


def conv(node: Node) -> Array:
    """Conv of any rank, with groups, dilations, auto_pad."""
    x, w, group = node.x, node.operand(1), int(node.get("group", 1))
    kernel = w.shape[2:]
    strides, dilations, begins, ends = geometry(node, x.shape[2:], kernel)
    x = padded(x, begins, ends)
    cuts, out = positions(x, kernel, strides, dilations)
    n, m, per_group = x.shape[0], w.shape[0], w.shape[1]
    points = math.prod(out)
    flat = w.reshape(group, m // group, per_group, len(cuts))
    if per_group == 1 and m == group:
        y = np.zeros((n, m, *out))
        for i, cut in enumerate(cuts):
            y += x[cut] * flat[:, 0, 0, i].reshape(-1, *[1] * len(out))
    elif len(cuts) == 1 or 8 * x.shape[1] * len(cuts) * points * n > COLUMN_BYTES:
        y = np.zeros((n, group, m // group, points))
        for i, cut in enumerate(cuts):
            y += flat[..., i] @ x[cut].reshape(n, group, per_group, points)
    else:
        columns = np.empty((n, group, per_group, len(cuts), points))
        for i, cut in enumerate(cuts):
            columns[:, :, :, i] = x[cut].reshape(n, group, per_group, points)
        y = flat.reshape(group, m // group, -1) @ columns.reshape(n, group, -1, points)
    return add_bias(y.reshape(n, m, *out), node.optional(2))


def add_bias(y: Array, bias: Array | None) -> Array:
    """y + bias on the channel axis."""
    return y if bias is None else np.asarray(y + bias.reshape(-1, *[1] * (y.ndim - 2)))


def conv_transpose(node: Node) -> Array:
    """ConvTranspose of any rank: scatter W^T x over the kernel positions, then crop."""
    x, w, group = node.x, node.operand(1), int(node.get("group", 1))
    kernel, spatial, rank = w.shape[2:], x.shape[2:], x.ndim - 2
    strides, dilations = list(node.get("strides", [1] * rank)), list(node.get("dilations", [1] * rank))
    extra = list(node.get("output_padding", [0] * rank))
    full = [
        s * (n - 1) + d * (k - 1) + 1 for s, n, d, k in zip(strides, spatial, dilations, kernel, strict=True)
    ]
    begins, ends = transpose_pads(node, full, extra, strides, spatial)
    n, per_group = x.shape[0], w.shape[1]
    xg = x.reshape(n, group, -1, math.prod(spatial))
    wg = w.reshape(group, -1, per_group, math.prod(kernel))
    y = np.zeros((n, group * per_group, *(f + max(0, e) for f, e in zip(full, extra, strict=True))))
    for i, offset in enumerate(itertools.product(*(range(k) for k in kernel))):
        part = (wg[..., i].swapaxes(1, 2) @ xg).reshape(n, group * per_group, *spatial)
        cut = [
            slice(o * d, o * d + s * (size - 1) + 1, s)
            for o, d, s, size in zip(offset, dilations, strides, spatial, strict=True)
        ]
        y[(slice(None), slice(None), *cut)] += part
    crop = [slice(b, y.shape[2 + i] - e) for i, (b, e) in enumerate(zip(begins, ends, strict=True))]
    return add_bias(y[(slice(None), slice(None), *crop)], node.optional(2))


def transpose_pads(
    node: Node, full: list[int], extra: list[int], strides: list[int], spatial: tuple[int, ...]
) -> tuple[list[int], list[int]]:
    """What to crop at the begin and the end of each axis."""
    rank = len(full)
    auto, shape = node.get("auto_pad", "NOTSET"), node.get("output_shape")
    if shape is None and auto in ("NOTSET", "", "VALID"):
        pads = list(node.get("pads", [0] * 2 * rank))
        return pads[:rank], pads[rank:]
    wanted = (
        list(shape)[-rank:] if shape is not None else [s * n for s, n in zip(strides, spatial, strict=True)]
    )
    totals = [max(0, f + e - want) for f, e, want in zip(full, extra, wanted, strict=True)]
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return (small, large) if auto == "SAME_UPPER" else (large, small)


def pool(node: Node) -> Array:
    """MaxPool and AveragePool without ceil_mode (with it, the reference implementation is used)."""
    x, kernel = node.x, tuple(node.get("kernel_shape"))
    strides, dilations, begins, ends = geometry(node, x.shape[2:], kernel)
    largest = node.proto.op_type == "MaxPool"
    wide = padded(x, begins, ends, -np.inf if largest else 0.0)
    cuts, _ = positions(wide, kernel, strides, dilations)
    if largest:
        y: Array = wide[cuts[0]].copy()
        for cut in cuts[1:]:
            np.maximum(y, wide[cut], out=y)
        return y
    total = sum(wide[cut] for cut in cuts)
    if node.get("count_include_pad", 0):
        return np.asarray(total / len(cuts))
    ones = padded(np.ones((1, 1, *x.shape[2:])), begins, ends)
    return np.asarray(total / sum(ones[cut] for cut in cuts))
