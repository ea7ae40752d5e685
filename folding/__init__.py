"""bnfold: fold batch-norm moving statistics into trained models, export ONNX, prove the result.

The three entries of the library:

    inspect(src)                 what is in a model, every batch norm with its statistics and health
    fold(src, dst, options)      fold, export, verify; returns the Report
    verify(a, b, options)        compare two models; returns the Verification
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from folding.errors import BnfoldError
from folding.options import FoldOptions
from folding.report import Inspection, Report, Verdict, Verification

if TYPE_CHECKING:
    from folding.pipeline import fold, inspect, verify

    __version__: str

# `folding.verify` is the public function. Loading the package of that name binds the name to the package, but
# only the first time: load it here and drop the name, then `__getattr__` answers. `from folding.verify.x
# import y` works as before.
import_module("folding.verify")
globals().pop("verify")

__all__ = [
    "BnfoldError",
    "FoldOptions",
    "Inspection",
    "Report",
    "Verdict",
    "Verification",
    "__version__",
    "fold",
    "inspect",
    "verify",
]

_ENTRIES = frozenset({"fold", "inspect", "verify"})


def __getattr__(name: str) -> Any:
    """Load an entry when it is first asked for: the pipeline imports onnx, the records do not need it."""
    if name in _ENTRIES:
        found = getattr(import_module("folding.pipeline"), name)
    elif name == "__version__":
        found = import_module("folding.toolchain").version()
    else:
        raise AttributeError(f"module 'folding' has no attribute {name!r}")
    globals()[name] = found
    return found
