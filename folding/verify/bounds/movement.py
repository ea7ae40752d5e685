"""Bounds of operators that move elements: the errors move with them, and nothing rounds.

Interpolation (Resize, Upsample: linear) takes sums with weights that are not negative and sum to 1: the same
sum over the errors, plus the roundings of at most 2^rank products.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from folding.verify.bounds.base import ZERO, Application, Array, Rule


def move(a: Application) -> Sequence[Array]:
    """Return the node's kernel on the error of the first operand."""
    if any(o is not None and np.any(o.error) for o in a.operands[1:]):
        return []  # an index or a shape that is not certain
    if a.x.error.ndim == 0 and not a.x.error:  # a stored constant: its error stays relative to its value
        return [np.asarray(a.x.relative * np.abs(y)) if a.x.relative else ZERO for y in a.results]
    values: list[Array | None] = [None if o is None else o.value for o in a.operands]
    values[0] = np.array(a.x.full())
    return [np.asarray(found) for found in a.kernel(values)]


def move_all(a: Application) -> Array:
    """Return the kernel on the errors of all float operands: of data and updates of a Scatter."""
    if all(o is None or not np.any(o.total()) for o in a.operands):
        return ZERO
    moved: list[Array | None] = []
    for i, operand in enumerate(a.operands):
        index = a.op_type.startswith("Scatter") and i == 1
        moved.append(None if operand is None else operand.value if index else np.array(operand.full()))
    return np.asarray(a.kernel(moved)[0])


def scatter(a: Application) -> Array | None:
    """Return the moved errors; where updates are reduced, also `gamma_n`, n the most updates at one place.

    add: the sum of the errors plus gamma_n times the absolute sum. mul: gamma_n |y|, exact operands only.
    """
    reduction = str(a.get("reduction", "none"))
    if reduction == "none":
        return move_all(a)
    data, updates = a.operand(0), a.operand(2)
    exact_operands = not (np.any(data.total()) or np.any(updates.total()))
    if reduction not in ("add", "mul") or a.y.dtype.kind != "f":
        return ZERO if exact_operands else None
    if reduction == "mul":
        return np.asarray(a.arithmetic.gamma(updates.value.size) * np.abs(a.y)) if exact_operands else None
    count = a.replaced((0, np.zeros_like(data.value)), (2, np.ones_like(updates.value)))
    size = a.replaced((0, np.abs(data.value)), (2, np.abs(updates.value)))
    error = ZERO if exact_operands else a.replaced((0, np.array(data.full())), (2, np.array(updates.full())))
    return np.asarray(error + a.arithmetic.gamma(int(np.max(count, initial=1)) + 1) * (size + error))


def pad(a: Application) -> Array | None:
    """Return the error padded with the error of the constant."""
    if not np.any(a.x.total()):
        return ZERO
    if a.get("mode", "constant") != "constant":
        return a.replaced((0, np.array(a.x.full())))
    filler = a.optional(2)
    worst = float(np.max(filler.total(), initial=0.0)) if filler is not None else 0.0
    if a.opset < 11 and a.get("value", 0.0):
        return None
    return a.replaced((0, np.array(a.x.full())), (2, np.asarray(worst)))


def resize(a: Application) -> Array | None:
    """Return the interpolation of the errors; None for cubic, whose weights are negative in part."""
    mode = a.get("mode", "nearest")
    if (
        mode not in ("nearest", "linear")
        or a.get("coordinate_transformation_mode", "") == "tf_crop_and_resize"
    ):
        return None
    error = a.replaced((0, np.array(a.x.full()))) if np.any(a.x.total()) else ZERO
    if mode == "nearest":
        return error
    size = a.replaced((0, np.abs(a.x.value)))
    # Weights come from coordinates, which are rounded relative to the axis' length.
    rate = a.arithmetic.gamma(2**a.x.value.ndim + 4 * max(a.x.value.shape, default=1))
    spread = np.max(np.abs(a.x.value), initial=0.0)
    return np.asarray(error + rate * (size + error + spread))


def exact(_: Application) -> Array:
    """Return zero: the result depends on shapes only."""
    return ZERO


def where(a: Application) -> Array:
    """Return the chosen side's error; where the condition is undecided, the distance of the sides as well."""
    condition, one, two = a.operand(0), a.operand(1), a.operand(2)
    error = np.where(condition.value, one.total(), two.total())
    if np.any(condition.total()):
        both = np.abs(one.value - two.value) + np.maximum(one.total(), two.total())
        error = np.where(condition.total() > 0, both, error)
    return np.asarray(error)


def cast(a: Application) -> Array | None:
    """Return the error plus the rounding of a narrower float; whole numbers: see `comparisons`."""
    widths = {1: 2.0**-24, 10: 2.0**-11, 11: 2.0**-53, 16: 2.0**-8}
    to = int(a.get("to", 0))
    if to not in widths:
        return None
    error = a.x.total()
    narrow = widths[to] if widths[to] > a.u else a.u
    if a.x.value.dtype.kind != "f":
        return np.asarray(error + widths[to] * (np.abs(a.x.value) + error))
    return np.asarray(error + (narrow if not a.arithmetic.exact else 0.0) * (np.abs(a.x.value) + error))


MOVES = (
    "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "GatherElements",
    "GatherND", "Expand", "Tile", "DepthToSpace", "SpaceToDepth", "ReverseSequence", "Trilu", "Compress",
)  # fmt: skip
RULES: dict[str, Rule] = {
    **dict.fromkeys(MOVES, move),
    **dict.fromkeys(("ScatterND", "ScatterElements", "Scatter"), scatter), "Concat": move_all,
    **dict.fromkeys(("Shape", "Size", "ConstantOfShape", "EyeLike", "Constant", "Range"), exact),
    "Pad": pad, "Resize": resize, "Upsample": resize, "Where": where,
}  # fmt: skip
