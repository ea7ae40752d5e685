"""Fold batch-norm statistics into trained models, export ONNX, and show the result equivalent.

    import bnfold

    result = bnfold.fold("model.h5")   # a path, bytes, onnx.ModelProto, onnx_ir.Model, keras.Model, tf.Module
    print(result)                      # ten lines: verdict, health, folds, differences
    result.save("model.onnx")          # only an artifact with the verdict `pass`, unless asked

    inspect(src)                          every batch norm with its statistics and health
    fold(src, dst=None, **options)        fold, export, verify
    verify(a, b, **options)               compare two models
    Client(url, key)                      the same through a bnfold service

Importing the package loads neither TensorFlow nor ONNX Runtime. Every error is a `BnfoldError`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnfold.api import fold, inspect, verify
    from bnfold.client import Client
    from bnfold.results import Folded, Inspected
    from folding.errors import (
        BnfoldError,
        ModelError,
        UnhealthyModel,
        UnknownFormat,
        UnsafeModel,
        UnsupportedModel,
        UsageError,
        VerificationFailed,
    )
    from folding.options import FoldOptions
    from folding.report import Headline, HealthCode, Inspection, Report, Verdict, Verification

    __version__: str

# Public name -> module that defines it. A name is loaded when it is first used.
_HOME = {
    "fold": "bnfold.api",
    "inspect": "bnfold.api",
    "verify": "bnfold.api",
    "Client": "bnfold.client",
    "Folded": "bnfold.results",
    "Inspected": "bnfold.results",
    "FoldOptions": "folding.options",
    "Headline": "folding.report",
    "HealthCode": "folding.report",
    "Inspection": "folding.report",
    "Report": "folding.report",
    "Verdict": "folding.report",
    "Verification": "folding.report",
    "BnfoldError": "folding.errors",
    "ModelError": "folding.errors",
    "UnhealthyModel": "folding.errors",
    "UnknownFormat": "folding.errors",
    "UnsafeModel": "folding.errors",
    "UnsupportedModel": "folding.errors",
    "UsageError": "folding.errors",
    "VerificationFailed": "folding.errors",
}

__all__ = [
    "BnfoldError",
    "Client",
    "FoldOptions",
    "Folded",
    "Headline",
    "HealthCode",
    "Inspected",
    "Inspection",
    "ModelError",
    "Report",
    "UnhealthyModel",
    "UnknownFormat",
    "UnsafeModel",
    "UnsupportedModel",
    "UsageError",
    "Verdict",
    "Verification",
    "VerificationFailed",
    "__version__",
    "fold",
    "inspect",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name == "__version__":
        found: Any = import_module("importlib.metadata").version("bnfold")
    elif name in _HOME:
        found = getattr(import_module(_HOME[name]), name)
    else:
        raise AttributeError(f"module 'bnfold' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
