"""Bounds of rounding errors, one module per operator family. A new operator: one line in a family's RULES.

`propagate` bounds the results of one node. An operator without a row has no bound (inf): its segment is
`measured` instead of `bounded`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from folding.verify.bounds import activations, comparisons, elementwise, linear, movement, norm, reductions
from folding.verify.bounds.base import (
    ARITHMETICS,
    BFLOAT16,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    FOLD,
    TF32,
    WIDEN,
    ZERO,
    Application,
    Arithmetic,
    Array,
    Bounded,
    Rule,
)

FAMILIES = (linear, elementwise, activations, norm, reductions, movement, comparisons)

__all__ = [
    "ARITHMETICS",
    "BFLOAT16",
    "EXACT_RESULTS",
    "FLOAT16",
    "FLOAT32",
    "FLOAT64",
    "FOLD",
    "RULES",
    "TF32",
    "Application",
    "Arithmetic",
    "Bounded",
    "propagate",
]  # fmt: skip

# Operators whose results no rounding touches: they move, choose or count elements.
EXACT_RESULTS = frozenset(
    (movement.RULES.keys() | comparisons.RULES.keys() | {"Relu", "Abs", "Neg", "Identity", "Dropout", "Max"}
     | {"Min", "Clip", "MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin", "TopK", "Unique", "Mod"})
    - {"Resize", "Upsample", "Cast", "DequantizeLinear"}
)  # fmt: skip


def merged(families: Sequence[object]) -> Mapping[str, Rule]:
    """Return one table. Raises: ValueError for an operator that two families claim."""
    found: dict[str, Rule] = {}
    for family in families:
        rules: dict[str, Rule] = family.RULES  # type: ignore[attr-defined]
        if twice := found.keys() & rules.keys():
            raise ValueError(f"two bounds for {sorted(twice)}")
        found.update(rules)
    return MappingProxyType(found)


RULES = merged(FAMILIES)


def propagate(application: Application) -> tuple[Bounded, ...]:
    """Return the node's results with their bounds, inf where none is known.

    Whole numbers and booleans from exact operands are exact.
    """
    results = application.results
    operands = [o for o in application.operands if o is not None]
    rule = RULES.get(application.op_type)
    if rule is None and all(o.exact for o in operands) and all(r.dtype.kind != "f" for r in results):
        return tuple(Bounded(value) for value in results)
    errors: Sequence[Array] = []
    if rule is not None:
        with np.errstate(all="ignore"):
            found = rule(application)
        errors = [] if found is None else [found] if isinstance(found, np.ndarray) else list(found)
    if len(errors) < len(results):
        errors = [*errors, *(np.asarray(np.inf) for _ in results[len(errors) :])]
    tiny = 0.0 if application.op_type in EXACT_RESULTS else application.arithmetic.tiny
    limit = application.arithmetic.largest
    return tuple(
        Bounded(value, in_range(value, clear_exact(value, error, tiny), limit))
        for value, error in zip(results, errors, strict=False)
    )


def in_range(value: Array, error: Array, largest: float) -> Array:
    """Return the error, inf where the computed number may have left the range of its type."""
    if value.dtype.kind != "f" or not value.size or largest == np.inf:
        return error
    with np.errstate(all="ignore"):
        size = np.abs(value)
        if float(np.max(size)) + float(np.max(error)) <= largest:
            return error
        return np.where(size + error <= largest, error, np.inf)


def clear_exact(value: Array, error: Array, tiny: float) -> Array:
    """Return the error widened by the rounding of its own evaluation; NaN says nothing and becomes inf."""
    with np.errstate(all="ignore"):
        wide = np.asarray(error, np.float64) * WIDEN + (tiny if value.dtype.kind == "f" else 0.0)
    if wide.ndim == 0:
        return (
            ZERO
            if wide == 0
            else np.broadcast_to(np.nan_to_num(wide, nan=np.inf, posinf=np.inf), value.shape)
        )
    return np.nan_to_num(np.broadcast_to(wide, value.shape), nan=np.inf, posinf=np.inf)
