"""Generated pages say what the code says, links lead somewhere, and nothing is undocumented."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel

from folding.errors import catalogue
from folding.options import FoldOptions
from folding.report import Inspection, Report, Verification
from service.runner import levels
from service.runner.jail import canary
from service.settings import Settings
from tests.support.doc_pages import markdown
from tests.support.paths import ROOT

REFERENCE = ROOT / "docs" / "reference"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference_docs", ROOT / "scripts" / "reference_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_are_up_to_date(generator: ModuleType) -> None:
    stale = [
        name
        for name, build in generator.PAGES.items()
        if (REFERENCE / name).read_text() != build().rstrip() + "\n"
    ]
    assert not stale, f"run `make docs`: {stale}"


@pytest.mark.parametrize("model", [FoldOptions, Settings], ids=lambda m: m.__name__)
def test_every_option_and_setting_is_described(model: type[BaseModel]) -> None:
    missing = [name for name, field in model.model_fields.items() if not field.description]
    assert not missing


def parts(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    """A model and everything that its fields refer to."""
    if model in seen:
        return seen
    seen.add(model)
    for field in model.model_fields.values():
        for kind in re.findall(r"folding\.report\.records\.(\w+)", str(field.annotation)):
            found = getattr(__import__("folding.report", fromlist=[kind]), kind)
            if isinstance(found, type) and issubclass(found, BaseModel):
                parts(found, seen)
    return seen


def test_every_field_of_the_report_is_described() -> None:
    models = parts(Report, set()) | parts(Inspection, set()) | parts(Verification, set())
    assert len(models) > 12, "the walk found next to nothing"
    missing = [f"{m.__name__}.{n}" for m in models for n, f in m.model_fields.items() if not f.description]
    assert not missing


@pytest.mark.parametrize("kind", sorted(catalogue.KINDS))
def test_every_code_has_its_section(kind: str) -> None:
    page = {"error": "error-codes", "health": "health-codes", "skip": "skip-reasons", "hazard": "hazards"}[
        kind
    ]
    text = (REFERENCE / f"{page}.md").read_text()
    missing = [code for code in catalogue.KINDS[kind] if f"`{code}`" not in text]
    assert not missing


@pytest.mark.parametrize("page", markdown(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{page.name} links to {target}"
        if anchor and found.suffix == ".md":
            headings = {
                re.sub(r"[^\w\- ]", "", line.lstrip("# ")).strip().lower().replace(" ", "-")
                for line in found.read_text().splitlines()
                if line.startswith("#")
            }
            assert anchor in headings, f"{page.name} links to {target}"


def test_every_page_can_be_reached() -> None:
    """From README or docs/README, by links alone."""
    seen: set[Path] = set()
    queue = [ROOT / "README.md", ROOT / "docs" / "README.md"]
    while queue:
        page = queue.pop().resolve()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        for target in re.findall(r"\]\(([^)\s#]+)", page.read_text()):
            if not re.match(r"[a-z]+:", target):
                queue.append(page.parent / target)
    pages = {p.resolve() for p in (ROOT / "docs").rglob("*.md") if "decisions" not in p.parts}
    assert not pages - seen, [str(p.relative_to(ROOT)) for p in pages - seen]


def test_changelog_has_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## [Unreleased]" in text


PATHS = re.compile(r"`((?:folding|service|tests|scripts|docs|deploy|bench|openapi)/[\w./-]+)`")


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/explanation/design.md", "service/web/README.md"])
def test_the_map_of_the_code_names_what_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    gone = [path for path in PATHS.findall(text) if "NNNN" not in path and not (ROOT / path).exists()]
    assert gone == []


def test_the_levels_of_the_sandbox_are_described_once() -> None:
    page = (ROOT / "docs" / "how-to" / "sandbox.md").read_text()
    table = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", page.split("## CUDA")[0], re.M))
    assert table == levels.MEANINGS
    assert len(canary.FILES | canary.PROCESSES | canary.LIMITS) == 50, "the page says how many acts"


def test_levels_have_an_order() -> None:
    assert levels.weakest(["full", "partial", "strong"]) == "partial"
    assert levels.weakest([], "unknown") == "unknown"
    assert levels.weakest(["full", "a word of a newer version"]) == "a word of a newer version"
