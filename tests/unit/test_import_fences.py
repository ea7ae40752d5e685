"""The fences of docs/decisions/0002-import-fences.md, as one table and as one fresh interpreter."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

# module -> the only places that may import it at all
ALLOWED = {
    "tensorflow": ("folding/sources/",),
    "tf2onnx": ("folding/sources/",),
    "tf_keras": ("folding/sources/",),
    "keras": ("folding/sources/",),
    "onnxruntime": ("folding/ort.py",),
    "sqlalchemy": ("service/",),
    "service": ("service/",),
}
# Pre-warming imports frameworks for their import time alone.
PREWARMING = {"service/runner/warm.py"}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def sources() -> list[Path]:
    return sorted(p for top in ("folding", "service") for p in (ROOT / top).rglob("*.py"))


@pytest.mark.parametrize("module", sorted(ALLOWED))
def test_only_the_fenced_places_import(module: str) -> None:
    trespassers = []
    for path in sources():
        place = path.relative_to(ROOT).as_posix()
        if place in PREWARMING or place.startswith(ALLOWED[module]):
            continue
        if any(name.split(".")[0] == module for name in imported(path)):
            trespassers.append(place)
    assert not trespassers, f"{module} may only be imported under {ALLOWED[module]}"


@pytest.mark.parametrize(
    "module",
    ["folding", "folding.pipeline", "folding.report", "folding.options", "folding.rules", "folding.norms"],
)
def test_importing_the_library_is_light(module: str) -> None:
    heavy = {"tensorflow", "tf2onnx", "tf_keras", "keras", "onnxruntime", "fastapi", "service", "sqlalchemy"}
    code = f"import sys, {module}; print(','.join(sorted({heavy!r} & set(sys.modules))))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert loaded.stdout.strip() == ""
