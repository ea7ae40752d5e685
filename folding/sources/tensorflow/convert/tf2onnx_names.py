"""Number the names that tf2onnx invents from 1 in each conversion, so that equal models give equal bytes.

tf2onnx counts through the whole process: `Transpose__12`, or a dimension `unk__17`, has another number after
each conversion before it. `make_name` is replaced once, and counts for itself in threads that convert here;
everywhere else it does what it did.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_FOLDED = re.compile(r"const_fold_opt__\d+")  # its optimizer visits nodes in the order of a set
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


def order_folded_constants(graph: Any) -> None:
    """Number the constants that tf2onnx's optimizer folded by their first use in `graph`, a GraphProto."""
    used = dict.fromkeys(name for name in _names(graph) if _FOLDED.fullmatch(name))
    new = dict(zip(used, sorted(used, key=lambda name: int(name.rsplit("_", 1)[1])), strict=True))
    _rename(graph, new)
    kept = [tensor for tensor in graph.initializer if tensor.name not in new]
    folded = sorted((tensor for tensor in graph.initializer if tensor.name in new), key=lambda t: str(t.name))
    ordered = [type(tensor).FromString(tensor.SerializeToString()) for tensor in (*kept, *folded)]
    del graph.initializer[:]
    graph.initializer.extend(ordered)


def _names(graph: Any) -> Iterator[str]:
    """Yield what the nodes read, in order, bodies included."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _names(attribute.g)


def _rename(graph: Any, new: dict[str, str]) -> None:
    for node in graph.node:
        node.name = new.get(node.name, node.name)
        for names in (node.input, node.output):
            names[:] = [new.get(name, name) for name in names]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, new)
    for named in (*graph.initializer, *graph.value_info, *graph.output):
        named.name = new.get(named.name, named.name)
