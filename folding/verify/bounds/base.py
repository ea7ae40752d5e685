"""A value with a bound of its error, and the arithmetic that makes the error.

The statement: `f` is what a graph computes in real arithmetic. `Bounded(value, error)` says
`|value - f| <= error` elementwise. Sources of the formulae: N. J. Higham, Accuracy and Stability of Numerical
Algorithms, 2nd edition, chapters 2 to 4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
ZERO: Array = np.zeros(())
# Bounds are evaluated in float64 themselves: their own rounding is far below this widening.
WIDEN = 1 + 2.0**-40


@dataclass(frozen=True)
class Bounded:
    """A value and a bound of its error.

    value: floats in float64. error: of the value's shape, or 0-d; inf where nothing is known. For integers
    and booleans it bounds the difference of the numbers: an element whose error is not 0 is *undecided*.
    relative: a further error of `relative * |value|`, as the rounding of a stored constant makes it.
    """

    value: Array
    error: Array = field(default_factory=lambda: ZERO)
    relative: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether the error is zero everywhere, by construction."""
        return self.relative == 0 and self.error.ndim == 0 and not self.error

    def total(self) -> Array:
        """Return the whole error, 0-d where it is zero everywhere."""
        if self.relative == 0:
            return self.error
        return np.asarray(self.error + self.relative * np.abs(self.value))

    def full(self) -> Array:
        """Return the whole error in the value's shape."""
        return np.broadcast_to(self.total(), np.shape(self.value))


@dataclass(frozen=True)
class Arithmetic:
    """How a provider computes.

    u: unit roundoff of results (2^-24 float32, 2^-11 float16, 2^-8 bfloat16, 2^-53 float64).
    factors: relative rounding of each factor of a product before it is multiplied (2^-10 for TF32).
    largest: the largest number; nothing is known of results that may be larger, and of what is made of them.
    convolution: growth of the rounding where a convolution may be no plain sum of products (Winograd, FFT).
    exact: the fold step, in float64 throughout: casts to narrower floats do not round in it.
    functions: error of elementary functions, in units of u, where the provider's table states it.
    attributes: relative rounding of float attributes, stored in float32, which a pass may have changed.
    tiny: absolute error of results that leave the normal range, gradually or at once (Higham, (2.8)): for
        float32, 4,096 terms that are flushed to zero below 2^-126.
    """

    name: str
    u: float
    factors: float = 0.0
    exact: bool = False
    functions: float = 8.0
    attributes: float = 0.0
    tiny: float = 2.0**-114
    convolution: float = 1.0
    largest: float = float(np.finfo(np.float32).max)

    def gamma(self, n: int) -> float:
        """gamma_n = n u / (1 - n u), Higham (3.1): n roundings in a row. inf where n u >= 1."""
        return n * self.u / (1 - n * self.u) if n * self.u < 1 else float("inf")


FLOAT64 = Arithmetic("float64", 2.0**-53, tiny=2.0**-1000, largest=float(np.finfo(np.float64).max))
FLOAT32 = Arithmetic("float32", 2.0**-24)
# TF32 keeps 11 significant bits of each factor of a product. Libraries round to them (2^-11), the hardware
# by itself cuts the rest off (2^-10); its float32 sums may be cut off too, at 2^-23. The bound covers both.
TF32 = Arithmetic("TF32", 2.0**-23, factors=2.0**-10)
FLOAT16 = Arithmetic("float16", 2.0**-11, tiny=2.0**-20, largest=65504.0)
BFLOAT16 = Arithmetic("bfloat16", 2.0**-8)
# The fold step: the artifact against the source, both by our float64 kernels. Eight times the unit roundoff
# stands for the roundings of both sides; it is 2^26 times below the one cast of each constant.
FOLD = Arithmetic(
    "float64, constants cast once",
    2.0**-50,
    exact=True,
    functions=1.0,
    attributes=2.0**-24,
    tiny=2.0**-1000,
    largest=float("inf"),
)
ARITHMETICS: tuple[Arithmetic, ...] = (FLOAT64, FLOAT32, TF32, FLOAT16, BFLOAT16, FOLD)


@dataclass(frozen=True)
class Application:
    """One node applied to values that carry errors.

    kernel: evaluates the node on other operands. results: its values on `operands`. get: an attribute's
    value or the default. shared: results on absolute operands, which several arithmetics have in common.
    """

    op_type: str
    operands: Sequence[Bounded | None]
    results: Sequence[Array]
    kernel: Callable[[Sequence[Array | None]], Sequence[Array]]
    get: Callable[[str, Any], Any]
    opset: int
    arithmetic: Arithmetic
    shared: dict[str, Array]

    def operand(self, index: int) -> Bounded:
        """Return an operand that must be there. Raises: IndexError."""
        found = self.optional(index)
        if found is None:
            raise IndexError(f"operand {index} of {self.op_type} is missing")
        return found

    def optional(self, index: int) -> Bounded | None:
        """Return an operand, or None where it is absent."""
        return self.operands[index] if index < len(self.operands) else None

    @property
    def x(self) -> Bounded:
        """The first operand."""
        return self.operand(0)

    @property
    def y(self) -> Array:
        """The first result."""
        return self.results[0]

    @property
    def u(self) -> float:
        """Unit roundoff; 0 for integers, which do not round."""
        return self.arithmetic.u if self.y.dtype.kind == "f" else 0.0

    def replaced(self, *changes: tuple[int, Array | None]) -> Array:
        """Return the kernel's first result with some operands replaced."""
        values = [None if o is None else o.value for o in self.operands]
        for index, value in changes:
            if index < len(values):
                values[index] = value
        return np.asarray(self.kernel(values)[0])


Rule: TypeAlias = Callable[[Application], "Array | Sequence[Array] | None"]
