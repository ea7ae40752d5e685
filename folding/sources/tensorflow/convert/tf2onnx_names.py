"""Number the names that tf2onnx invents from 1 in each conversion, so that equal models give equal bytes.

tf2onnx counts through the whole process: `Transpose__12`, or a dimension `unk__17`, has another number after
each conversion before it. `make_name` is replaced once, and counts for itself in threads that convert here;
everywhere else it does what it did.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_state = threading.local()
_MARK = "_bnfold_original"


@contextmanager
def numbered_from_one(package: Any) -> Iterator[None]:
    """Count names from 1 in this thread, until the end of the conversion."""
    _install(package)
    before = getattr(_state, "count", None)
    _state.count = 0
    try:
        yield
    finally:
        _state.count = before


def _install(package: Any) -> None:
    original = package.utils.make_name
    if hasattr(original, _MARK):
        return

    def make_name(name: str) -> str:
        count = getattr(_state, "count", None)
        if count is None:
            return str(original(name))
        _state.count = count + 1
        return f"{name}__{_state.count}"

    setattr(make_name, _MARK, original)
    # the modules that took the function over by name
    for module in (package.utils, package.graph, package.optimizer.loop_optimizer):
        module.make_name = make_name
