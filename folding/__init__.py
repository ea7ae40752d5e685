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

_LAZY = {"fold", "inspect", "verify"}


def __getattr__(name: str) -> Any:
    # The pipeline pulls in onnx; a caller who only wants the records should not wait for it.
    if name in _LAZY:
        from folding import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'folding' has no attribute {name!r}")
