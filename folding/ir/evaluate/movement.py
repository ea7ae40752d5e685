"""Operators that move elements without computing anything: shapes, axes, joins, cuts, selections.

They hold for every element type, text included.
"""

from __future__ import annotations

import math

import numpy as np

from folding.ir.evaluate.arithmetic import Kernel
from folding.ir.evaluate.dtypes import compatible, is_integer
from folding.ir.evaluate.reductions import normal_axes
from folding.ir.evaluate.view import NodeView, NotEvaluatedError
from folding.ir.types import Array


def reshape(view: NodeView) -> Array:
    """0 copies a dimension (unless allowzero), one -1 is inferred."""
    shape = view.ints("shape", 1)
    if shape is None or min(shape, default=0) < -1:
        raise NotEvaluatedError(f"Reshape to {shape}")
    if not view.flag("allowzero"):
        shape = [view.x.shape[i] if size == 0 else size for i, size in enumerate(shape)]
    return view.x.reshape(shape)


def flatten(view: NodeView) -> Array:
    """To a matrix at `axis`."""
    x, axis = view.x, int(view.get("axis", 1))
    if not -x.ndim <= axis <= x.ndim:
        raise NotEvaluatedError(f"Flatten at axis {axis} of rank {x.ndim}")
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def squeeze(view: NodeView) -> Array:
    """Drop axes of length 1: the named ones, by default all."""
    axes = view.ints("axes", 1)
    return np.squeeze(view.x, axis=None if axes is None else tuple(axes))


def unsqueeze(view: NodeView) -> Array:
    """Insert axes of length 1."""
    axes = view.ints("axes", 1)
    if axes is None:
        raise NotEvaluatedError("Unsqueeze without axes")
    return np.expand_dims(view.x, tuple(axes))


def transpose(view: NodeView) -> Array:
    """Permute axes; reversed by default."""
    return view.x.transpose(view.get("perm"))


def concat(view: NodeView) -> Array:
    """Join along an axis."""
    arrays = [view.input(index) for index in range(len(view.inputs))]
    (axis,) = normal_axes([int(view.get("axis", 1))], arrays[0].ndim)
    if not compatible(*arrays):
        raise NotEvaluatedError("Concat of several types")
    view.allow([*arrays[0].shape[:axis], sum(a.shape[axis] for a in arrays), *arrays[0].shape[axis + 1 :]])
    return np.concatenate(arrays, axis=axis)


def split(view: NodeView) -> tuple[Array, ...]:
    """Cut along an axis into given sizes, else into equal ones; from opset 18 on the last may be smaller."""
    x = view.x
    (axis,) = normal_axes([int(view.get("axis", 0))], x.ndim)
    sizes, parts = view.ints("split", 1), len(view.outputs)
    if sizes is None:
        if view.opset < 18 and x.shape[axis] % parts:
            raise NotEvaluatedError("Split into parts that are not equal")
        chunk = math.ceil(x.shape[axis] / parts)
        sizes = [chunk] * (parts - 1)
        sizes.append(x.shape[axis] - sum(sizes))
    if min(sizes, default=-1) < 0 or sum(sizes) != x.shape[axis] or len(sizes) != parts:
        raise NotEvaluatedError(f"Split of {x.shape[axis]} into {sizes}")
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis))


def slices(view: NodeView) -> Array:
    """Slice: starts and ends count from the end where negative and are clamped to the axis."""
    x = view.x
    starts, ends = view.ints("starts", 1), view.ints("ends", 2)
    if starts is None or ends is None:
        raise NotEvaluatedError("Slice without starts or ends")
    axes, steps = view.ints("axes", 3), view.ints("steps", 4)
    chosen = normal_axes(list(range(len(starts))) if axes is None else axes, x.ndim)
    index: list[slice] = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, chosen, steps or [1] * len(starts), strict=True):
        index[axis] = clamped(start, end, step, x.shape[axis])
    return x[tuple(index)]


def clamped(start: int, end: int, step: int, size: int) -> slice:
    """Return the slice that ONNX means. A start below the axis is its first element, also going backwards."""
    if step == 0:
        raise NotEvaluatedError("Slice with a step of 0")
    start, end = (start + size if start < 0 else start), (end + size if end < 0 else end)
    if step > 0:
        return slice(min(max(start, 0), size), min(max(end, 0), size), step)
    start, end = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
    if size == 0 or end >= start:
        return slice(0, 0)
    return slice(start, None if end < 0 else end, step)


def gather(view: NodeView) -> Array:
    """Select along one axis. An index outside of it is not evaluated."""
    x, indices = view.x, view.input(1)
    (axis,) = normal_axes([int(view.get("axis", 0))], x.ndim)
    view.allow([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])
    return np.asarray(np.take(x, indices.astype(np.int64), axis=axis))


def gather_elements(view: NodeView) -> Array:
    """y[i][j] = x[indices[i][j]][j] for axis 0."""
    x, indices = view.x, view.input(1)
    (axis,) = normal_axes([int(view.get("axis", 0))], x.ndim)
    places: list[Array] = list(np.ogrid[tuple(slice(0, size) for size in indices.shape)])
    places[axis] = indices
    return x[tuple(places)]


def gather_nd(view: NodeView) -> Array:
    """The last axis of the indices is an index tuple into x, behind `batch_dims` shared axes."""
    x, indices, batch = view.x, view.input(1), int(view.get("batch_dims", 0))
    if (
        indices.ndim < 1
        or not 0 <= batch < min(x.ndim, indices.ndim)
        or x.shape[:batch] != indices.shape[:batch]
    ):
        raise NotEvaluatedError("GatherND: shapes do not fit")
    depth = indices.shape[-1]
    view.allow([*indices.shape[:-1], *x.shape[batch + depth :]])
    lead = [
        np.arange(size).reshape((-1, *(1,) * (indices.ndim - 2 - axis)))
        for axis, size in enumerate(x.shape[:batch])
    ]
    found: Array = x[(*lead, *(indices[..., i] for i in range(depth)))]
    return found


def expand(view: NodeView) -> Array:
    """Broadcast in both directions; the result is a view."""
    return np.broadcast_to(view.x, view.allow(np.broadcast_shapes(view.x.shape, _sizes(view, 1))))


def tile(view: NodeView) -> Array:
    """Repeat along each axis."""
    repeats = _sizes(view, 1)
    if len(view.inputs) != 2 or len(repeats) != view.x.ndim:
        raise NotEvaluatedError("Tile: one number of repeats for each axis is expected")
    view.allow(size * times for size, times in zip(view.x.shape, repeats, strict=True))
    return np.tile(view.x, repeats)


def _sizes(view: NodeView, index: int) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in view.input(index).reshape(-1))
    if min(sizes, default=0) < 0:
        raise NotEvaluatedError(f"{view.op_type}: {list(sizes)} is no shape")
    return sizes


def pad(view: NodeView) -> Array:
    """Add elements around each axis, or take some away where a width is negative."""
    x, mode = view.x, view.get("mode", "constant")
    around = pad_widths(view)
    view.allow(size + low + high for size, (low, high) in zip(x.shape, around, strict=True))
    cut = tuple(
        slice(max(-low, 0), size - max(-high, 0)) for size, (low, high) in zip(x.shape, around, strict=True)
    )
    grown = [(max(low, 0), max(high, 0)) for low, high in around]
    if mode == "constant":
        fill = view.number("value", 0.0) if view.opset < 11 else view.optional(2)
        fill = fill.reshape(-1)[0] if isinstance(fill, np.ndarray) else (0 if fill is None else fill)
        return np.pad(x[cut], grown, constant_values=np.asarray(fill, x.dtype))
    reach = {"reflect": 1, "edge": None, "wrap": 0}[mode]
    for size, (low, high) in zip(x.shape, around, strict=True):
        if (
            min(low, high) < 0
            or (size == 0 and low + high)
            or (reach is not None and max(low, high) > size - reach)
        ):
            raise NotEvaluatedError(f"Pad ({mode}) by {low} and {high} of an axis of {size}")
    return np.asarray(np.pad(x, grown, mode=mode))


def pad_widths(view: NodeView) -> list[tuple[int, int]]:
    """Return what is added before and after each axis of the first input."""
    rank = view.x.ndim
    pads = view.ints("pads", 1) or (view.ints("paddings") if view.opset < 2 else None) or []
    given = view.ints("axes", 3) if view.opset >= 18 else None
    axes = tuple(range(rank)) if given is None else normal_axes(given, rank)
    if len(pads) != 2 * len(axes):
        raise NotEvaluatedError(f"Pad of {len(axes)} axes by {len(pads)} numbers")
    around = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        around[axis] = (pads[i], pads[len(axes) + i])
    return around


def depth_to_space(view: NodeView) -> Array:
    """(N, C b b, H, W) to (N, C, H b, W b); the channel's blocks come first in mode DCR, last in CRD."""
    x, b = view.x, int(view.get("blocksize"))
    n, c, h, w = x.shape
    if view.get("mode", "DCR") == "DCR":
        y = x.reshape(n, b, b, c // (b * b), h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        y = x.reshape(n, c // (b * b), b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return y.reshape(n, c // (b * b), h * b, w * b)


def space_to_depth(view: NodeView) -> Array:
    """(N, C, H b, W b) to (N, b b C, H, W)."""
    x, b = view.x, int(view.get("blocksize"))
    if view.get("mode", "DCR") != "DCR":
        raise NotEvaluatedError("SpaceToDepth in another mode than DCR")
    n, c, h, w = x.shape
    y = x.reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
    return y.reshape(n, c * b * b, h // b, w // b)


def dropout(view: NodeView) -> Array:
    """The input, at inference; the mask and training mode are not evaluated."""
    training = view.optional(2)
    if any(view.outputs[1:]) or (training is not None and training.any()) or view.opset < 7:
        raise NotEvaluatedError("Dropout in training mode, or with its mask")
    return view.x


def shape(view: NodeView) -> Array:
    """The sizes of the axes from `start` to `end`."""
    start, end = view.get("start", 0), view.get("end")
    return np.asarray(view.x.shape[slice(start, end)], np.int64)


def compress(view: NodeView) -> Array:
    """Keep what the condition says along an axis, by default of the flattened input."""
    x, condition = view.x, view.input(1)
    if condition.dtype != np.bool_ or condition.ndim != 1:
        raise NotEvaluatedError("Compress by other than a vector of truth values")
    axis = view.get("axis")
    if condition.size > (x.size if axis is None else x.shape[int(axis)]):
        raise NotEvaluatedError("Compress by more than there is")
    return np.compress(condition, x, axis=axis)


def trilu(view: NodeView) -> Array:
    """The upper (or lower) triangle of the last two axes; 0 elsewhere."""
    offset = view.optional(1)
    k = 0 if offset is None else int(offset.reshape(-1)[0])
    if (
        view.x.ndim < 2
        or view.x.dtype == object
        or not (is_integer(view.x.dtype) or view.x.dtype.kind in "fb")
    ):
        raise NotEvaluatedError(f"Trilu of {view.x.dtype}")
    k = max(-(1 << 30), min(1 << 30, k))
    return np.triu(view.x, k) if view.flag("upper", 1) else np.tril(view.x, k)


KERNELS: dict[str, Kernel] = {
    "Compress": compress,
    "Concat": concat,
    "DepthToSpace": depth_to_space,
    "Dropout": dropout,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "Identity": lambda view: view.x,
    "Pad": pad,
    "Reshape": reshape,
    "Shape": shape,
    "Size": lambda view: np.asarray(view.x.size, np.int64),
    "Slice": slices,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Trilu": trilu,
    "Unsqueeze": unsqueeze,
}
