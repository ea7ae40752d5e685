"""Import SymPy when onnx_ir first computes with a symbolic dimension, not when onnx_ir is imported.

onnx_ir 1.1 imports SymPy at its top, and that import takes as long as all others of a fold together. Only
arithmetic with symbolic dimensions needs it, which hardly any model asks for. `install` watches for the
import of onnx_ir and gives it a stand-in for the module; everybody else who imports SymPy gets SymPy.

To be removed when onnx_ir imports SymPy late by itself:
`tests/integration/library/test_deferred_sympy.py` tells.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, cast

_READER = "onnx_ir"
_DEFERRED = "sympy"


class _Function:
    """A function of SymPy that onnx_ir keeps in a table while it is imported; found when it is called."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *arguments: Any) -> Any:
        return getattr(import_module(_DEFERRED), self._name)(*arguments)


class _Deferred(ModuleType):
    """What onnx_ir holds as `sympy`: `while_importing` it gives names, later SymPy's own attributes."""

    while_importing = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Function(name) if self.while_importing else getattr(import_module(_DEFERRED), name)


class _ReaderLoader:
    """Runs onnx_ir's own loader with the stand-in in the place of SymPy."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Raises: what the import of onnx_ir raises."""
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        deferred = _Deferred(_DEFERRED)
        given = sys.modules.setdefault(_DEFERRED, deferred) is deferred
        try:
            self._loader.exec_module(module)
        finally:
            deferred.while_importing = False
            if given:
                sys.modules.pop(_DEFERRED, None)


class _ReaderFinder:
    """Finds onnx_ir once, and leaves."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _READER:
            return None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = cast(Any, _ReaderLoader(spec.loader))
        return spec


def install() -> None:
    """Watch for the import of onnx_ir; nothing where it, or SymPy, is imported already."""
    if _READER not in sys.modules and _DEFERRED not in sys.modules:
        sys.meta_path.insert(0, _ReaderFinder())
