"""Habits of tests, benchmarks and scripts: public names, no shared random generators, no fixed ports.

A private name may change without a test knowing; shared state makes the order of tests matter; a fixed port
lets two runs meet.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.source_trees import parse_all

OURS = {"bnfold", "folding", "service", "tests", "bench", "scripts"}
# Public to those who own them: os, IPython, SQLAlchemy. ONNX's list of models has no other name.
OF_OTHERS = {"_exit", "_repr_html_", "_mapping", "_NodeTestCases"}
PATCHES = {"setattr", "delattr", "getattr", "patch", "object"}
GENERATORS = ("default_rng", "RandomState", "random.Random", "np.random.seed", "random.seed", "Generator")
ADDRESS = re.compile(r"(?:127\.0\.0\.1|localhost|0\.0\.0\.0|\[::1\]):(\d+)")
# Addresses that nothing listens on: headers of requests to an application in the same process, examples in
# pages (replaced by a free port before they run), files of a deployment.
NOT_BOUND = {
    "tests/integration/docs/test_commands.py",
    "tests/integration/service/test_deploy.py",
    "tests/integration/service/test_origin.py",
}


@cache
def trees() -> dict[str, ast.Module]:
    """Return place -> tree of every file here that is no fixture, parsed once."""
    paths = (path for top in ("tests", "bench", "scripts") for path in (ROOT / top).rglob("*.py"))
    chosen = (p for p in paths if not {"fixtures", "output"} & set(p.parts) and p != Path(__file__))
    return {path.relative_to(ROOT).as_posix(): tree for path, tree in parse_all(chosen).items()}


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


def test_no_private_name_is_reached() -> None:
    found = [f"{path}:{line}: {name}" for path, tree in trees().items() for line, name in reached(tree)]
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


def module_level(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements that run at import, also in classes."""
    stack: list[ast.stmt] = list(tree.body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.ClassDef):
            stack += node.body
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def shared_generators(tree: ast.Module) -> Iterator[int]:
    """Lines where a generator is kept, or the global one is seeded, at import."""
    for statement in module_level(tree):
        value = getattr(statement, "value", None)
        if isinstance(value, ast.Call) and ast.unparse(value.func).endswith(GENERATORS):
            yield statement.lineno


def fixed_ports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from (
                (node.lineno, m.group()) for m in ADDRESS.finditer(node.value) if 1024 <= int(m[1]) < 1 << 16
            )
        if (
            isinstance(node, ast.keyword)
            and node.arg == "port"
            and isinstance(node.value, ast.Constant)
            and node.value.value
        ):
            yield node.value.lineno, f"port={node.value.value}"
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("bind", "create_server"):
            yield from (
                (node.lineno, ast.unparse(a))
                for a in node.args
                if re.search(r", [1-9]\d+\)$", ast.unparse(a))
            )


def test_no_generator_is_shared() -> None:
    found = [f"{path}:{line}" for path, tree in trees().items() for line in shared_generators(tree)]
    assert found == []


def test_no_port_is_fixed() -> None:
    found = [
        f"{path}:{line}: {what}"
        for path, tree in trees().items()
        if path.startswith("tests/") and path not in NOT_BOUND
        for line, what in fixed_ports(tree)
    ]
    assert found == []


def test_both_are_seen() -> None:
    assert list(shared_generators(ast.parse("rng = np.random.default_rng(0)")))
    assert list(shared_generators(ast.parse("class A:\n    rng = random.Random(1)")))
    assert not list(shared_generators(ast.parse("def test() -> None:\n    rng = np.random.default_rng(0)")))
    for code in ("serve(port=8750)", "s.bind(('127.0.0.1', 8750))", "url = 'http://127.0.0.1:8750/livez'"):
        assert list(fixed_ports(ast.parse(code)))
    assert not list(fixed_ports(ast.parse("s.bind(('127.0.0.1', 0))")))
