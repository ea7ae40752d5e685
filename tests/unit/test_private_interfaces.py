"""No private module of uvicorn or typer is imported: they change without notice."""

from __future__ import annotations

import ast

import pytest

from tests.support.paths import ROOT
from tests.support.source_trees import source_trees

PUBLIC = {"typer": {"typer", "typer.main", "typer.testing"}, "uvicorn": {"uvicorn"}}


@pytest.mark.parametrize("package", sorted(PUBLIC))
def test_only_public_modules_are_imported(package: str) -> None:
    found = []
    for path, tree in source_trees().items():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
                private = [a.name for a in node.names if a.name.startswith("_")]
                found += [
                    f"{path.relative_to(ROOT)}: {node.module}.{n}"
                    for n in private
                    if node.module.split(".")[0] == package
                ]
            found += [
                f"{path.relative_to(ROOT)}: {name}"
                for name in names
                if name.split(".")[0] == package and name not in PUBLIC[package]
            ]
    assert found == []
