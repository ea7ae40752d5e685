"""bnfold: fold batch-norm moving statistics into trained models, export ONNX, prove the result.

The three entries of the library:

    inspect(src)                 what is in a model, every batch norm with its statistics and health
    fold(src, dst, options)      fold, export, verify; returns the Report
    verify(a, b, options)        compare two models; returns the Verification
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from folding import deferred_sympy

if TYPE_CHECKING:
    from folding.errors import BnfoldError
    from folding.options import FoldOptions
    from folding.pipeline import fold, inspect, verify
    from folding.report import Inspection, Report, Verdict, Verification

    __version__: str

deferred_sympy.install()  # before anything below imports onnx_ir

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

_HOMES = {
    **dict.fromkeys(("fold", "inspect", "verify"), "folding.pipeline"),
    **dict.fromkeys(("Inspection", "Report", "Verdict", "Verification"), "folding.report"),
    "BnfoldError": "folding.errors",
    "FoldOptions": "folding.options",
}


def __getattr__(name: str) -> Any:
    """Import the module of a name when it is first asked for: a command imports only what it uses."""
    if name in _HOMES:
        found = getattr(import_module(_HOMES[name]), name)
    elif name == "__version__":
        found = import_module("folding.toolchain").version()
    else:
        raise AttributeError(f"module 'folding' has no attribute {name!r}")
    globals()[name] = found
    return found
