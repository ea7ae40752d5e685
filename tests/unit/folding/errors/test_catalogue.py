"""Every code that a user can meet has an explanation, and nothing else does."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from folding import errors
from folding.errors import catalogue
from folding.errors.texts.base import Text
from folding.report import HealthCode
from folding.rules.base import SkipReason
from service.runner.base import Crash
from tests.support.paths import ROOT
from tests.support.source_trees import source_trees


def error_classes(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """(class, code) for every class body with `code = "..."` and an exception-like base."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef) or not node.bases:
            continue
        for statement in node.body:
            target = (
                statement.target
                if isinstance(statement, ast.AnnAssign)
                else statement.targets[0]
                if isinstance(statement, ast.Assign)
                else None
            )
            value = getattr(statement, "value", None)
            if isinstance(target, ast.Name) and target.id == "code" and isinstance(value, ast.Constant):
                yield node.name, value.value


def literal_codes() -> dict[str, str]:
    """code -> where, for class attributes of error classes and for `SomeError(..., code="...")` calls."""
    names = {name for name in vars(errors) if isinstance(vars(errors)[name], type)}
    found: dict[str, str] = {}
    trees = source_trees()
    for path, tree in trees.items():
        for name, code in error_classes(tree):
            names.add(name)
            found.setdefault(code, f"{path.relative_to(ROOT)} {name}")
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            callee = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            for keyword in node.keywords:
                if keyword.arg == "code" and isinstance(keyword.value, ast.Constant) and callee in names:
                    found.setdefault(str(keyword.value.value), f"{path.relative_to(ROOT)}:{node.lineno}")
            if callee == "refuse" and node.args and isinstance(node.args[0], ast.Constant):
                found.setdefault(str(node.args[0].value), f"{path.relative_to(ROOT)}:{node.lineno}")
    return found


def test_every_literal_error_code_is_explained() -> None:
    codes = literal_codes()
    assert len(codes) > 10, "the scan found next to nothing: it no longer fits the code"
    missing = {code: where for code, where in codes.items() if not catalogue.lookup(code)}
    assert not missing, f"add to folding/errors/catalogue.py ERRORS: {missing}"


@pytest.mark.parametrize(
    ("members", "table"),
    [(HealthCode, catalogue.HEALTH), (SkipReason, catalogue.SKIPS)],
    ids=["health", "skip"],
)
def test_enums_and_tables_agree(members: type, table: dict[str, Text]) -> None:
    assert {member.value for member in members} == set(table)


def test_every_crash_is_explained() -> None:
    assert {crash.value for crash in Crash} <= set(catalogue.ERRORS)


def test_every_text_is_whole() -> None:
    for entry in catalogue.entries():
        where = f"{entry.kind} {entry.code}"
        assert entry.title, where
        assert not entry.title.endswith("."), f"{where}: a title is no sentence"
        assert entry.meaning.endswith((".", ":", ")")), where
        assert len(entry.meaning) >= 20, f"{where}: too short to explain anything"
        assert entry.remedy.endswith((".", ")")), where


def test_a_code_that_is_explained_twice_is_refused() -> None:
    text = Text("Title", "What it means.", "What to do.", "The smallest case.")
    with pytest.raises(ValueError, match="twice: b"):
        catalogue.join({"a": text, "b": text}, {"b": text, "c": text})


def test_every_code_has_an_example_of_its_own() -> None:
    examples = [entry.example for entry in catalogue.entries()]
    assert [entry.code for entry in catalogue.entries() if len(entry.example) < 5] == []
    assert len(examples) == len(set(examples)), "two codes have one example"


@pytest.mark.parametrize("spelling", ["never_updated", "never-updated", " NEVER_UPDATED "])
def test_lookup_takes_any_spelling(spelling: str) -> None:
    assert [entry.kind for entry in catalogue.lookup(spelling)] == ["health"]


def test_similar_codes() -> None:
    assert "never_updated" in catalogue.similar("never_update")
    assert catalogue.lookup("nonsense") == []
