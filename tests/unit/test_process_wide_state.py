"""The library changes nothing for the whole process: logging and warnings of other threads stay."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.support.paths import ROOT
from tests.support.source_trees import source_trees

# Each acts on all threads. Filters of warnings name the packages that they are for (`module=`).
FORBIDDEN = {
    "logging.disable",
    "logging.captureWarnings",
    "warnings.catch_warnings",
    "warnings.simplefilter",
    "warnings.resetwarnings",
}
NAMES = {name.split(".")[1] for name in FORBIDDEN} | {"filterwarnings"}
NAMES = {name.split(".")[1] for name in FORBIDDEN} | {"filterwarnings"}


def trespasses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("logging", "warnings"):
            yield from ((node.lineno, a.name) for a in node.names if f"{node.module}.{a.name}" in FORBIDDEN)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in NAMES:
            called = ast.unparse(node.func)
            bare = called == "warnings.filterwarnings" and not any(k.arg == "module" for k in node.keywords)
            if called in FORBIDDEN or bare:
                yield node.lineno, called


def test_no_call_acts_on_the_whole_process() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {called}"
        for path, tree in source_trees().items()
        for line, called in trespasses(tree)
    ]
    assert found == []


def test_each_is_seen() -> None:
    for code in (*(f"{name}()" for name in FORBIDDEN), "warnings.filterwarnings('ignore')"):
        assert list(trespasses(ast.parse(code)))
    assert not list(trespasses(ast.parse("warnings.filterwarnings('ignore', module='keras')")))
