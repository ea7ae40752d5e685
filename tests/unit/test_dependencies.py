"""What `pyproject.toml` asks for at run time is imported somewhere."""

from __future__ import annotations

import ast
import tomllib
from functools import cache

import pytest
from packaging.requirements import Requirement

from tests.support.paths import ROOT
from tests.support.source_trees import source_trees

PACKAGES = {
    "python-multipart": "multipart",
    "pydantic-settings": "pydantic_settings",
    "prometheus-client": "prometheus_client",
}
# Used without an import of ours: fastapi reads forms with the one, pages serve the files of the other.
INDIRECT = {"python-multipart", "netron"}


def requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(line).name for line in project["dependencies"]]


@cache
def imported() -> set[str]:
    names: set[str] = set()
    for tree in source_trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
            elif isinstance(node, ast.Call) and called(node) == "import_module" and node.args:
                names.add(ast.unparse(node.args[0]).strip("'\"").split(".")[0])
    return names


def called(node: ast.Call) -> str:
    return getattr(node.func, "attr", "") or getattr(node.func, "id", "")


@pytest.mark.parametrize("name", sorted(set(requirements()) - INDIRECT))
def test_a_run_time_dependency_is_imported(name: str) -> None:
    assert PACKAGES.get(name, name.replace("-", "_")) in imported()
