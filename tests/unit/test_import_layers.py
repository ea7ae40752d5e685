"""Imports run downwards only: no circle between modules, no arrow to a higher layer.

Every import counts, those inside functions and those for type checkers too. A module belongs to the layer
that names it or the longest package around it. To add a package: put its name where its imports allow.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.source_trees import parse_all

# From the lowest layer to the highest; modules of one line may import each other, without circles.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("folding.errors", "folding.options", "folding.artifact_files", "folding.progress",
     "folding.progress_bar", "folding.plug_ins", "folding.toolchain", "folding.temporary_folder"),
    ("folding.report",),
    ("folding.ir",),
    ("folding.ort", "folding.norms"),
    ("folding.passes",),
    ("folding.rules", "folding.export"),
    ("folding.report.norm_rows", "folding.report.graph_map", "folding.report.graph_align"),
    ("folding.health", "folding.ort_format", "folding.bundles"),
    ("folding.sources",),
    ("folding.calibrate", "folding.verify"),
    ("folding.pipeline",),
    ("folding",),
    ("service.errors", "service.settings"),
    ("service.logs", "service.telemetry", "service.process", "service.addresses",
     "service.files", "service.provenance", "service.exports", "service.client"),
    ("service.web.graph", "service.web.headers"),
    ("service.store",),
    ("service.auth", "service.uploads", "service.runner"),
    ("service.jobs", "service.webhooks"),
    ("service.releases", "service.reports", "service.models", "service.engine"),
    ("service.wiring",),
    ("service.backup", "service.engine.main", "service.api"),
    ("service.web",),
    ("service.app", "service.openapi"),
    ("service.cli",),
    ("service",),
)  # fmt: skip

Graph = dict[str, dict[str, int]]


def modules(root: Path, *packages: str) -> dict[str, Path]:
    found = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def arrows(known: dict[str, Path]) -> Graph:
    """Module -> what it imports -> the line that does."""
    graph: Graph = {}
    trees = parse_all(known.values())
    for name, path in known.items():
        targets: dict[str, int] = {}
        for node in ast.walk(trees[path]):
            for target in imported(node, known):
                targets.setdefault(target, node.lineno)  # type: ignore[attr-defined]
        targets.pop(name, None)
        graph[name] = targets
    return graph


def imported(node: ast.AST, known: dict[str, Path]) -> list[str]:
    """The modules of ours that a statement imports; `from package import name` may mean a module of it."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if alias.name in known]
    if not isinstance(node, ast.ImportFrom) or not node.module or node.level:
        return []
    full = (f"{node.module}.{alias.name}" for alias in node.names)
    return [name if name in known else node.module for name in full if name in known or node.module in known]


def layer(module: str) -> int:
    """The layer of a module, by the longest name that it lies under."""
    best = max(
        (name for names in LAYERS for name in names if module == name or module.startswith(f"{name}.")),
        key=len,
        default="",
    )
    assert best, f"{module} is in no layer"
    return next(number for number, names in enumerate(LAYERS) if best in names)


def circle(graph: Graph) -> list[str]:
    """One chain of imports that comes back to where it began; empty when there is none."""
    done: set[str] = set()
    for start in graph:
        chain, on_chain, rest = [start], {start}, [iter(graph[start])]
        while rest and start not in done:
            target = next(rest[-1], None)
            if target is None:
                rest.pop()
                on_chain.discard(chain[-1])
                done.add(chain.pop())
            elif target in on_chain:
                return [*chain[chain.index(target) :], target]
            elif target not in done:
                chain.append(target)
                on_chain.add(target)
                rest.append(iter(graph[target]))
    return []


@cache
def ours() -> Graph:
    return arrows(modules(ROOT, "folding", "service"))


def test_no_circle() -> None:
    found = circle(ours())
    assert not found, " -> ".join(found)


def test_no_arrow_to_a_higher_layer() -> None:
    upward = [
        f"{name}:{line} -> {target}"
        for name, targets in ours().items()
        for target, line in targets.items()
        if layer(target) > layer(name)
    ]
    assert not upward, "\n".join(upward)


def test_circles_and_hidden_imports_are_seen(tmp_path: Path) -> None:
    package = tmp_path / "p"
    package.mkdir()
    sources = {
        "__init__": "",
        "a": "from p import b",
        "b": "def f():\n    from p.c import g\n",
        "c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import p.a\n",
    }
    for name, text in sources.items():
        (package / f"{name}.py").write_text(text)
    graph = arrows(modules(tmp_path, "p"))
    assert circle(graph) == ["p.a", "p.b", "p.c", "p.a"]
    del graph["p.b"]["p.c"]
    assert circle(graph) == []
