"""float64 in, stored dtype out: the one cast of a fold, blockwise, with its certificate.

    W' = W * factor_1 * factor_2        factors broadcast to W

Blocks along the first axis keep the float64 working set in cache, so a 100 MB network is folded at memory
speed and never held in float64 as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from folding.ir.types import Array, Float64Array
from folding.norms.constants import EXACT
from folding.rules.certificate import Rounding, measure

_BLOCK = 1 << 16


def scaled(
    weights: Array,
    factors: Sequence[Float64Array],
    dtype: np.dtype[np.generic],
    offset: Float64Array | None = None,
) -> tuple[Array, Rounding]:
    """Weights times factors, plus the offset, in `dtype`, and what the cast did."""
    result = np.empty(weights.shape, dtype)
    total = Rounding(dtype.name)
    rows = weights.shape[0] if weights.ndim else 1
    step = max(1, _BLOCK // max(1, weights.size // max(rows, 1)))
    for start in range(0, rows, step):
        block = slice(start, start + step)
        exact = weights[block].astype(np.float64)
        for factor in factors:
            exact *= factor[block] if factor.shape[0] != 1 else factor
        if offset is not None:
            exact += offset[block] if offset.shape[0] != 1 else offset
        with np.errstate(over="ignore", under="ignore"):  # counted by `measure`
            result[block] = exact.astype(dtype)
        total.add(measure(exact, result[block]))
    return result, total


def remember(value: ir.Value, exact: Callable[[], Float64Array]) -> None:
    """Keep what a constant was rounded from: a later round of the fold starts there and rounds once."""
    if isinstance(value.const_value, ir.Tensor):
        value.const_value.meta[EXACT] = exact


def forget_all(model: ir.Model) -> None:
    """Let go of what `remember` kept, when the last round is over."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.Tensor):
                value.const_value.meta.pop(EXACT, None)


def rounded(exact: Float64Array, dtype: np.dtype[np.generic]) -> tuple[Array, Rounding]:
    """A small array in `dtype`, and what the cast did."""
    with np.errstate(over="ignore", under="ignore"):  # counted by `measure`
        result = exact.astype(dtype)
    return result, measure(np.atleast_1d(exact), np.atleast_1d(result))
