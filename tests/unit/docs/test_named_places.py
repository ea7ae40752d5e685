"""Files, folders and names of the code that pages and comments mention exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.doc_pages import markdown
from tests.support.paths import ROOT

TOPS = "bench|bnfold|constraints|deploy|docs|examples|folding|openapi|scripts|service|tests"
PLACE = re.compile(rf"(?<![\w/.-])(?:{TOPS})/[\w./-]*[\w/]")
NAMED = re.compile(r"`([\w/]+\.py)`, `(\w+)`|`(\w+)` in `([\w/]+\.py)`")
QUOTED = re.compile(r"`([^`\n]+\.(?:py|md|json|html|js))`")
# A repository's name, a pattern, what a page or a target writes, an object of Kubernetes.
NO_FILE = {
    "bnfold/bnfold",
    "docs/decisions/NNNN-title.md",
    "deploy/compose/.env",
    "service/web/site",
    "deploy/bnfold-api",
}


def places(text: str) -> list[str]:
    """Paths below the checkout that a text mentions; what has a placeholder behind it is none."""
    found = [m for m in PLACE.finditer(text) if text[m.end() : m.end() + 1] not in ("<", "*", "{", "[", "…")]
    return [m.group().rstrip("/.") for m in found]


def exists(place: str) -> bool:
    """Whether it is a file, a folder, a module without its ending, or the prefix of a checkpoint's files."""
    path = ROOT / place
    endings = ("", ".py", ".md", ".meta", ".index")
    return place in NO_FILE or any(path.with_name(path.name + ending).exists() for ending in endings)


@pytest.mark.parametrize("page", markdown(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_places_that_a_page_names_exist(page: Path) -> None:
    missing = [place for place in places(page.read_text()) if not exists(place)]
    assert missing == []


def test_places_that_code_names_exist() -> None:
    missing = [
        f"{path.relative_to(ROOT)}: {place}"
        for top in ("bnfold", "folding", "service")
        for path in sorted((ROOT / top).rglob("*.py"))
        for quoted in QUOTED.findall(path.read_text())
        for place in places(quoted)
        if not exists(place)
    ]
    assert missing == []


@pytest.mark.parametrize("page", markdown(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_names_that_a_page_puts_into_a_module_are_there(page: Path) -> None:
    """`NAME` in `folding/x.py`: the module has it."""
    for first, name, other, second in NAMED.findall(page.read_text()):
        module, wanted = (first, name) if first else (second, other)
        if (ROOT / module).is_file():
            assert re.search(rf"\b{wanted}\b", (ROOT / module).read_text()), f"{wanted} in {module}"


def test_what_is_missing_is_seen() -> None:
    assert places("see `folding/nowhere.py` and service/<name>.py") == ["folding/nowhere.py"]
    assert not exists("folding/nowhere.py")
