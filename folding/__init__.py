"""bnfold: fold batch-norm moving statistics into trained models, export ONNX, prove the result.

The three entries of the library:

    inspect(src)                 what is in a model, every batch norm with its statistics and health
    fold(src, dst, options)      fold, export, verify; returns the Report
    verify(a, b, options)        compare two models; returns the Verification
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from folding.errors import BnfoldError
from folding.options import FoldOptions
from folding.report import Inspection, Report, Verdict, Verification

if TYPE_CHECKING:
    from folding.pipeline import fold, inspect, verify

__all__ = [
    "BnfoldError",
    "FoldOptions",
    "Inspection",
    "Report",
    "Verdict",
    "Verification",
    "fold",
    "inspect",
    "verify",
]

_LAZY = {"fold", "inspect"}


def __getattr__(name: str) -> Any:
    # The pipeline pulls in onnx; a caller who only wants the records should not wait for it.
    from importlib import import_module

    if name in _LAZY:
        return getattr(import_module("folding.pipeline"), name)
    if name == "verify":  # the package of that name, which can be called
        return import_module("folding.verify")
    raise AttributeError(f"module 'folding' has no attribute {name!r}")
