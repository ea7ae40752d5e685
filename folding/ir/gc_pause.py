"""Python's cyclic garbage collector, out of the way while graphs are rewritten.

A graph in the IR, and one in tf2onnx, is one web of references in both directions: the collector finds
nothing to free in it and walks all of it again each time enough objects are new, which makes reading and
rewriting quadratic (400 pairs of conv and BN: 13 % of the time). What a stage drops is freed when the
collector runs again.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """No collection inside; afterwards as before."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
