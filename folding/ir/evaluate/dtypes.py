"""Element types: which are floats, how they are widened, and arrays of rationals.

Rationals are object arrays of `fractions.Fraction`. Text is an object array of `str` or `bytes`.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np

from folding.ir.types import Array

# TensorProto.DataType of the types that float64 mode computes in float64: FLOAT, FLOAT16, DOUBLE, BFLOAT16.
WIDENED = frozenset({1, 10, 11, 16})


_STANDARD = ("float16", "float32", "float64", "bfloat16")


@cache
def is_standard_float(dtype: np.dtype[Any]) -> bool:
    """Return whether a type is a float of 16 to 64 bits."""
    return dtype.name in _STANDARD


def is_float(dtype: np.dtype[Any]) -> bool:
    """Return whether a type is floating, the ones of ml_dtypes included."""
    if dtype.kind == "f":
        return True
    if dtype.kind != "V":
        return False
    try:
        ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    except ValueError:
        return False
    return True


def is_integer(dtype: np.dtype[Any]) -> bool:
    """Return whether a type holds whole numbers, the 4-bit and 2-bit ones included. bool is none."""
    if dtype.kind in "iu":
        return True
    return dtype.kind == "V" and not is_float(dtype)


def is_rational(array: Array) -> bool:
    """Return whether an array holds rationals (an object array that is no text)."""
    return array.dtype.kind == "O" and not is_text(array)


def is_text(array: Array) -> bool:
    """Return whether an array holds strings."""
    if array.dtype.kind in "SU":
        return True
    return array.dtype.kind == "O" and array.size > 0 and isinstance(array.flat[0], str | bytes)


def compatible(*arrays: Array) -> bool:
    """Return whether arrays may be joined: one type, or floats of several widths, which numpy promotes."""
    found = {array.dtype for array in arrays}
    return len(found) == 1 or all(map(is_standard_float, found))


def widen(array: Array) -> Array:
    """Return floats of up to 64 bits as float64 and everything else (8-bit floats too) as it is."""
    if is_standard_float(array.dtype):
        return array.astype(np.float64, copy=False)
    return array


def to_rationals(array: Array) -> Array:
    """Return numbers as an object array of `Fraction`, exactly. Raises ValueError for NaN and infinities."""
    flat = [_fraction(number) for number in array.reshape(-1).tolist()]
    result = np.empty(len(flat), dtype=object)
    result[:] = flat
    return result.reshape(array.shape)


def _fraction(number: Any) -> Fraction:
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError(f"{number} is no rational number")
    return Fraction(number)
