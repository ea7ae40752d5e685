"""Syntax trees of the product, parsed once for all tests that read them."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tests.support.paths import ROOT


@cache
def source_trees() -> dict[Path, ast.Module]:
    """Return file -> tree for every module of `folding` and `service`."""
    return parse_all(p for top in ("folding", "service") for p in (ROOT / top).rglob("*.py"))


def parse_all(paths: Iterable[Path]) -> dict[Path, ast.Module]:
    """Return file -> tree, sorted.

    Half a million nodes make the garbage collector look at each of them again and again, which takes three
    times as long as parsing, and goes on as long as they live: it is off meanwhile, and then leaves them out.
    """
    gc.disable()
    try:
        trees = {path: ast.parse(path.read_text()) for path in sorted(paths)}
        gc.freeze()
        return trees
    finally:
        gc.enable()
