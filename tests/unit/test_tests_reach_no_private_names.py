"""Tests, benchmarks and scripts use public names only: a private one may change without a test knowing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT

OURS = {"bnfold", "folding", "service", "tests", "bench", "scripts"}
# Public to those who own them: os, IPython, SQLAlchemy. ONNX's list of models has no other name.
OF_OTHERS = {"_exit", "_repr_html_", "_mapping", "_NodeTestCases"}
PATCHES = {"setattr", "delattr", "getattr", "patch", "object"}


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in OF_OTHERS


def reached(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of each private name that belongs to somebody else."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OURS:
            yield from ((node.lineno, alias.name) for alias in node.names if private(alias.name))
        elif isinstance(node, ast.Attribute) and private(node.attr):
            own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if not own:
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            if called in PATCHES:
                yield from ((node.lineno, t) for t in texts if any(private(part) for part in t.split(".")))


def places() -> list[Path]:
    return [path for top in ("tests", "bench", "scripts") for path in (ROOT / top).rglob("*.py")]


def test_no_private_name_is_reached() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in places()
        if "fixtures" not in path.parts and "output" not in path.parts
        for line, name in reached(ast.parse(path.read_text()))
    ]
    assert found == []


def test_each_way_to_reach_one_is_seen() -> None:
    ways = (
        "from service.cli.doctor import _cuda",
        "import folding.health as h\nh._limit",
        "monkeypatch.setattr(module, '_spawn', other)",
        "patch('service.engine.embedded._spawn')",
        "queue._child.kill()",
    )
    assert all(list(reached(ast.parse(way))) for way in ways)
    assert not list(reached(ast.parse("self._child = 1\nx.__class__\nos._exit(0)")))
