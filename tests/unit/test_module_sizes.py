"""Modules stay short, and folders small: what is longer or fuller is split by meaning."""

from __future__ import annotations

import statistics
from pathlib import Path

from tests.support.paths import ROOT

MOST_LINES, MEDIAN_LINES, MOST_MODULES = 400, 150, 14
# Folders in which each module is one entry of a list.
LISTS = {
    "folding/passes": "one pass a module",
    "folding/rules/transparent": "one kind of node a module",
    "folding/sources/gates": "one format a module, and what several of them check",
    "folding/ir/evaluate": "one family of operators a module",
    "service/cli": "one command a module",
}


def product_modules() -> list[Path]:
    found = [path for package in ("bnfold", "folding", "service") for path in (ROOT / package).rglob("*.py")]
    assert len(found) > 300, "the scan found next to nothing"
    return found


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_no_module_is_too_long() -> None:
    assert [str(p.relative_to(ROOT)) for p in product_modules() if lines(p) > MOST_LINES] == []


def test_the_median_module_is_short() -> None:
    assert statistics.median(map(lines, product_modules())) <= MEDIAN_LINES


def test_no_folder_has_too_many_modules() -> None:
    """A folder's `__init__` does not count; lists are named in `LISTS`, and only while they need to be."""
    count: dict[str, int] = {}
    for path in product_modules():
        if path.name != "__init__.py":
            folder = path.parent.relative_to(ROOT).as_posix()
            count[folder] = count.get(folder, 0) + 1
    assert {folder for folder, modules in count.items() if modules > MOST_MODULES} == LISTS.keys()
