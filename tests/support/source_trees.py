"""Syntax trees of the product, parsed once for all tests that read them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from tests.support.paths import ROOT


@cache
def source_trees() -> dict[Path, ast.Module]:
    """Return file -> tree for every module of `folding` and `service`."""
    paths = sorted(p for top in ("folding", "service") for p in (ROOT / top).rglob("*.py"))
    return {path: ast.parse(path.read_text()) for path in paths}
