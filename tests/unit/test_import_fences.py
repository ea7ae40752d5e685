"""The fences of docs/decisions/0002-import-fences.md, as one table."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache

import pytest

from tests.support.paths import ROOT
from tests.support.source_trees import source_trees

# module -> the only places that may import it at all
ALLOWED = {
    "tensorflow": ("folding/sources/",),
    "tf2onnx": ("folding/sources/",),
    "ai_edge_litert": ("folding/sources/",),
    "tf_keras": ("folding/sources/",),
    "keras": ("folding/sources/",),
    "onnxruntime": ("folding/ort.py",),
    "sqlalchemy": ("service/",),
    "service": ("service/",),
}
# Pre-warming imports frameworks for their import time alone.
PREWARMING = {"service/runner/warm.py"}


@cache
def imported() -> dict[str, set[str]]:
    """Return file -> top-level names of the packages that it imports."""
    return {path.relative_to(ROOT).as_posix(): set(packages(tree)) for path, tree in source_trees().items()}


def packages(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("module", sorted(ALLOWED))
def test_only_the_fenced_places_import(module: str) -> None:
    trespassers = [
        place
        for place, names in imported().items()
        if module in names and place not in PREWARMING and not place.startswith(ALLOWED[module])
    ]
    assert not trespassers, f"{module} may only be imported under {ALLOWED[module]}"
