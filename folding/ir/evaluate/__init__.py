"""ONNX operators in NumPy: one table, an exact and a float64 mode. `registry` says how to add an operator."""

from __future__ import annotations

from folding.ir.evaluate.dtypes import is_float, is_integer, is_rational, to_rationals, widen
from folding.ir.evaluate.registry import EXPRESSIONS, OPERATORS, compute
from folding.ir.evaluate.view import Mode, NodeView, NotEvaluatedError, TooLargeError, view_of

__all__ = [
    "EXPRESSIONS",
    "OPERATORS",
    "Mode",
    "NodeView",
    "NotEvaluatedError",
    "TooLargeError",
    "compute",
    "is_float",
    "is_integer",
    "is_rational",
    "to_rationals",
    "view_of",
    "widen",
]
