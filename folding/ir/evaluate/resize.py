"""Resize and Upsample: axis by axis, nearest, linear or cubic.

Given:  x (..., n, ...), scale s = sizes / n or as stated        Result: y (..., floor(n s), ...)
Runtimes compute coordinates in float32: where float64 would choose another nearest neighbour, or another
size, nothing is evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from folding.ir.evaluate.arithmetic import Kernel
from folding.ir.evaluate.dtypes import is_integer, is_rational
from folding.ir.evaluate.reductions import normal_axes
from folding.ir.evaluate.view import NodeView, NotEvaluatedError
from folding.ir.types import Array

Real = Any  # float, np.float32 or Fraction: coordinates are computed in each of them


@dataclass(frozen=True)
class Axis:
    """One axis that changes. scale: exact; stated as float32 or the quotient of the sizes."""

    index: int
    old: int
    new: int
    scale: Fraction


Coordinate = Callable[[Real, Real, int, int, Real], Real]
_TRANSFORMS: dict[str, Coordinate] = {
    "half_pixel": lambda i, s, old, new, half: (i + half) / s - half,
    "pytorch_half_pixel": lambda i, s, old, new, half: (i + half) / s - half if new > 1 else i * 0,
    "asymmetric": lambda i, s, old, new, half: i / s,
    "align_corners": lambda i, s, old, new, half: i * (old - 1) / (new - 1) if new > 1 else i * 0,
}
_NEAREST: dict[str, Callable[[Real], int]] = {
    "round_prefer_floor": lambda c: math.ceil(c - type(c)(0.5)),
    "round_prefer_ceil": lambda c: math.floor(c + type(c)(0.5)),
    "floor": math.floor,
    "ceil": math.ceil,
}


def resize(view: NodeView) -> Array:
    """Resize of opset 10 and later, and Upsample."""
    x, mode = view.x, view.get("mode", "nearest")
    if view.flag("antialias") or view.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise NotEvaluatedError(f"{view.op_type} with antialias or a policy of aspect ratios")
    if mode not in ("nearest", "linear", "bilinear", "cubic") or (mode != "nearest" and is_integer(x.dtype)):
        raise NotEvaluatedError(f"{view.op_type} ({mode}) of {x.dtype}")
    axes = changed_axes(view)
    shape = list(x.shape)
    for axis in axes:
        shape[axis.index] = axis.new
    view.allow(shape)
    for axis in axes:
        x = (
            nearest(view, x, axis)
            if mode == "nearest"
            else interpolated(view, x, axis, cubic=mode == "cubic")
        )
    return x


def changed_axes(view: NodeView) -> list[Axis]:
    """Return the axes that change, from scales (an attribute before opset 9) or from sizes."""
    shape, modern = view.x.shape, view.op_type == "Resize" and view.opset >= 11
    scales, sizes = view.optional(2 if modern else 1), view.optional(3) if modern else None
    if view.has("scales"):
        scales = np.asarray(view.get("scales"), np.float32)
    given = view.ints("axes") if modern else None
    chosen = tuple(range(len(shape))) if given is None else normal_axes(given, len(shape))
    if sizes is not None and sizes.size:
        news = [int(size) for size in sizes.reshape(-1)]
        ratios = [Fraction(new, max(shape[axis], 1)) for axis, new in zip(chosen, news, strict=True)]
    elif scales is not None and scales.size:
        ratios = [Fraction(float(np.float32(scale))) for scale in scales.reshape(-1)]
        news = [math.floor(shape[axis] * ratio) for axis, ratio in zip(chosen, ratios, strict=True)]
        rounded = [
            int(np.float32(shape[axis]) * np.float32(float(r)))
            for axis, r in zip(chosen, ratios, strict=True)
        ]
        if rounded != news:
            raise NotEvaluatedError("Resize: the size depends on how the product is rounded")
    else:
        raise NotEvaluatedError(f"{view.op_type} without sizes and scales")
    if len(ratios) != len(chosen) or any(ratio <= 0 for ratio in ratios) or 0 in shape:
        raise NotEvaluatedError(f"{view.op_type} by {[float(ratio) for ratio in ratios]}")
    return [Axis(a, shape[a], n, r) for a, n, r in zip(chosen, news, ratios, strict=True) if r != 1]


def coordinates(view: NodeView, axis: Axis, kind: Callable[[Any], Real]) -> list[Real]:
    """Return where each new element lies on the old axis, computed in the numbers of `kind`."""
    modern = view.op_type == "Resize" and view.opset >= 11
    name = view.get("coordinate_transformation_mode", "half_pixel") if modern else "asymmetric"
    if name not in _TRANSFORMS:
        raise NotEvaluatedError(f"Resize with {name}")
    if name == "align_corners" and (axis.old * axis.scale).denominator != 1:
        raise NotEvaluatedError("Resize with align_corners to a size that is no whole number")
    scale, half = kind(axis.scale.numerator) / kind(axis.scale.denominator), kind(1) / kind(2)
    return [_TRANSFORMS[name](kind(i), scale, axis.old, axis.new, half) for i in range(axis.new)]


def nearest(view: NodeView, x: Array, axis: Axis) -> Array:
    """Take the nearest old element for each new one."""
    modern = view.op_type == "Resize" and view.opset >= 11
    rounded = _NEAREST[view.get("nearest_mode", "round_prefer_floor") if modern else "floor"]
    found = [rounded(c) for c in coordinates(view, axis, Fraction)]
    narrow = [rounded(c) for c in coordinates(view, axis, np.float32)]
    if found != narrow:
        raise NotEvaluatedError("Resize: which element is nearest depends on how coordinates are rounded")
    return x.take(np.clip(found, 0, axis.old - 1), axis=axis.index)


def interpolated(view: NodeView, x: Array, axis: Axis, *, cubic: bool) -> Array:
    """Sum two (linear) or four (cubic) old elements for each new one."""
    places = coordinates(view, axis, Fraction)
    if not cubic:
        places = [min(max(place, Fraction(0)), Fraction(axis.old - 1)) for place in places]
    lows = [math.floor(place) for place in places]
    taps = range(-1, 3) if cubic else range(2)
    a = Fraction(float(np.float32(view.get("cubic_coeff_a", -0.75))))
    weights = [
        [cubic_weight(place - low - tap, a) if cubic else 1 - abs(place - low - tap) for tap in taps]
        for place, low in zip(places, lows, strict=True)
    ]
    if view.flag("exclude_outside") and cubic:
        weights = [excluded(row, low, axis.old) for row, low in zip(weights, lows, strict=True)]
    total: Any = 0
    for number, tap in enumerate(taps):
        factor = np.array([row[number] for row in weights], object)
        factor = factor if is_rational(x) else factor.astype(np.float64).astype(x.dtype)
        source = np.clip(np.array(lows) + tap, 0, axis.old - 1)
        total = total + x.take(source, axis=axis.index) * factor.reshape(
            [-1 if i == axis.index else 1 for i in range(x.ndim)]
        )
    return np.asarray(total)


def cubic_weight(distance: Fraction, a: Fraction) -> Fraction:
    """Return Keys' cubic kernel."""
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else Fraction(0)


def excluded(row: list[Fraction], low: int, size: int) -> list[Fraction]:
    """Return weights with those outside the axis at 0 and the rest summing to 1."""
    kept = [w if 0 <= low + tap < size else Fraction(0) for w, tap in zip(row, range(-1, 3), strict=True)]
    return [w / sum(kept) for w in kept]


KERNELS: dict[str, Kernel] = {"Resize": resize, "Upsample": resize}
