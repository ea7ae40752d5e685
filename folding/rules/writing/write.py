"""Writing what absorbers took: every weight read once, folded in float64, cast once.

Weights that only this node reads are replaced under their own name. Shared ones are folded once for all
readers that agree, and copied for those that do not.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from folding.ir.types import Array, Float64Array
from folding.report import figures
from folding.rules import certificate as cert
from folding.rules.absorbers import quantized
from folding.rules.absorbers.linear import Linear
from folding.rules.base import Skip, SkipReason
from folding.rules.interface import Context, Side
from folding.rules.writing.bias import Bias, dtype_of, forget, refuse, store
from folding.rules.writing.rounding import remember, scaled

_NARROW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_WIDE_RANGE = 2.0**40  # float32 weights times less than this are nowhere near the ends of the range
COPY_ALWAYS = 16 << 20  # bytes of shared weights that are worth a copy whatever the model's size
Key = tuple[ir.Value, bytes]


@dataclass(eq=False)
class Writer:
    """Holds what was written already, so that sharing survives."""

    ctx: Context
    folded: dict[Key, tuple[ir.Value, cert.Rounding]] = field(default_factory=dict)
    readers: dict[Key, int] = field(default_factory=dict)
    originals: dict[ir.Value, Array] = field(default_factory=dict)

    added: int = 0  # Adds that were written behind a node: new affines, that others may merge with
    again: bool = False  # another round follows: remember what weights were rounded from

    def __post_init__(self) -> None:
        sizes = [
            v.const_value.nbytes
            for v in self.ctx.model.graph.initializers.values()
            if v.const_value is not None
        ]
        self._copy_limit = max(COPY_ALWAYS, sum(sizes) // 8)

    def expect(self, linear: Linear) -> None:
        """Count the readers of each weight that want it folded alike, before the first is written."""
        key = (linear.weight, _digest(linear))
        self.readers[key] = self.readers.get(key, 0) + 1

    def write(self, linear: Linear) -> cert.Rounding | Skip:
        """Fold the node's constants, or change nothing and say why."""
        key = (linear.weight, _digest(linear))
        weights = self.original(linear.weight)
        bias = Bias.of(linear, weights, self.ctx)
        if isinstance(bias, Skip):
            return bias
        made = quantized.fold(linear, linear.s_out, linear.s_in, self.ctx)
        if isinstance(made, Skip):
            return made
        if made is not None:
            quantized.place(linear, made, self.ctx)
            bias.rounding.add(made.rounding)
            bias.place()
            self.added += bias.added
            return bias.rounding
        if key in self.folded:
            value, rounding = self.folded[key]
        else:
            fresh = self._fold_weight(linear, weights, key)
            if isinstance(fresh, Skip):
                return fresh
            value, rounding = fresh
        total = cert.Rounding(rounding.dtype)
        total.add(rounding)
        total.add(bias.rounding)
        old = linear.weight
        linear.node.replace_input_with(linear.weight_index, value)
        forget(old)
        bias.place()
        self.added += bias.added
        return total

    def original(self, weight: ir.Value) -> Array:
        """The weights before any fold, also after they were replaced under their own name."""
        if weight in self.originals:
            return self.originals[weight]
        weights = self.ctx.constants.array(weight)
        if len(weight.uses()) > 1:
            self.originals[weight] = weights
        return weights

    def preview(self, linear: Linear, side: Side, scale: Float64Array, shift: Float64Array) -> Skip | None:
        """Whether the node could also take this affine without leaving the range of its dtype.

        Looks at the weights, hence only where the range is at stake: narrow types and extreme scales.
        """
        taken = linear.s_out if side == Side.INTO_PRODUCER else linear.s_in
        if linear.weight.dtype not in _NARROW and not _extreme(scale if taken is None else taken * scale):
            return None
        trial = copy(linear)
        trial.absorb(side, scale, shift)
        weights = self.original(linear.weight)
        bias = Bias.of(trial, weights, self.ctx)
        if isinstance(bias, Skip):
            return bias
        if quantized.dequantizer(trial) is not None:
            return None  # its scales carry the affine, not its integers
        _, rounding = _folded(trial, weights)
        return refuse(rounding, f"weights of {trial.label}")

    def _fold_weight(self, linear: Linear, weights: Array, key: Key) -> tuple[ir.Value, cert.Rounding] | Skip:
        array, rounding = _folded(linear, weights)
        if array is weights:
            return linear.weight, rounding
        refusal = refuse(rounding, f"weights of {linear.label}")
        if refusal is not None:
            return refusal
        exclusive = len(linear.weight.uses()) == self.readers.get(key, 1)
        if not exclusive and array.nbytes > self._copy_limit:
            return Skip(
                SkipReason.SHARED_WEIGHTS,
                f"`{linear.weight.name}` has other readers that want it as it is, and a copy of "
                f"{figures.size(array.nbytes)} costs more than the fold saves",
            )
        value = store(self.ctx, linear.weight, array, linear.node, exclusive=exclusive)
        if self.again:
            factors, offset = _factors(linear)
            remember(value, lambda: _exact(weights, factors, offset))
        self.folded[key] = value, rounding
        return value, rounding


def _folded(linear: Linear, weights: Array) -> tuple[Array, cert.Rounding]:
    """The weights with all that the node absorbed; the very same array when that changes none of them."""
    factors, offset = _factors(linear)
    dtype = dtype_of(linear, weights)
    if not factors and offset is None:
        return weights, cert.Rounding(dtype.name)
    return scaled(weights, factors, dtype, offset)


def _factors(linear: Linear) -> tuple[list[Float64Array], Float64Array | None]:
    """What multiplies the weights, and what is added to them."""
    layouts = ((linear.out_factor, linear.s_out), (linear.in_factor, linear.s_in))
    factors = [f for layout, vector in layouts if (f := _factor(layout, vector)) is not None]
    offset = None
    if linear.shift_in_weights and linear.t_out is not None:
        offset = linear.out_factor(linear.t_out)
    return factors, offset


def _exact(weights: Array, factors: list[Float64Array], offset: Float64Array | None) -> Float64Array:
    exact = np.asarray(weights.astype(np.float64))
    for factor in factors:
        exact *= factor
    return exact if offset is None else exact + offset


def _extreme(scale: Float64Array) -> bool:
    size = np.abs(scale[scale != 0.0])
    return bool(size.size and (size.max() > _WIDE_RANGE or size.min() < 1.0 / _WIDE_RANGE))


def _factor(layout: object, vector: Float64Array | None) -> Float64Array | None:
    if vector is None or np.all(vector == 1.0):
        return None
    assert callable(layout)
    return np.asarray(layout(vector), dtype=np.float64)


def _digest(linear: Linear) -> bytes:
    parts = [linear.s_out, linear.s_in, linear.t_out if linear.shift_in_weights else None]
    neutral = (1.0, 1.0, 0.0)
    return b"|".join(
        b"" if item is None or np.all(item == same) else item.tobytes()
        for item, same in zip(parts, neutral, strict=True)
    )
