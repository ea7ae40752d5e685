"""The documentation site: built without a warning, whole without a network, in the wheel, served."""

from __future__ import annotations

import json
import re
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from scripts import comparison
from service.web.rendering import docs_site, templating
from tests.support.paths import ROOT


class Addresses(HTMLParser):
    """What a page loads, where it leads, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {found.get("id") or "", found.get("name") or ""}
        if tag in ("script", "img") and found.get("src"):
            self.loads.append(str(found["src"]))
        if tag == "link" and found.get("rel") in ("stylesheet", "icon"):
            self.loads.append(str(found["href"]))
        if tag == "a" and found.get("href"):
            self.leads.append(str(found["href"]))


def pages(site: Path) -> dict[Path, Addresses]:
    return {path: Addresses(path.read_text()) for path in site.rglob("*.html")}


def test_every_page_of_the_documentation_is_in_it(site: Path) -> None:
    sources = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    made = {path.relative_to(site) for path in site.rglob("*.html")}
    for source in sources:
        target = source.with_name("index.html") if source.name == "README.md" else source.with_suffix(".html")
        assert target in made, source
    text = (ROOT / "mkdocs.yml").read_text()
    for source in sources:
        if "decisions" not in source.parts:
            assert str(source) in text, f"{source} is not in the navigation of mkdocs.yml"


def test_it_needs_no_network_and_no_link_is_dead(site: Path) -> None:
    found = pages(site)
    for path, page in found.items():
        for address in page.loads:
            assert not urlsplit(address).netloc, f"{path.name} loads {address}"
        for address in (*page.loads, *page.leads):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or not parts.path:
                continue
            if path.name == "404.html":  # its addresses are from the root of the host
                continue
            target = (path.parent / unquote(parts.path)).resolve()
            assert target.exists() or target == site.resolve(), f"{path.relative_to(site)}: {address}"


def test_the_library_is_documented_from_its_docstrings(site: Path) -> None:
    text = (site / "reference" / "library.html").read_text()
    for name in ("bnfold.fold", "bnfold.inspect", "bnfold.verify", "bnfold.Folded.raise_for_verdict"):
        assert f'id="{name}"' in text, name
    assert "write the artifact to" in text
    client = (site / "reference" / "client.html").read_text()
    for name in ("fold", "submit", "wait", "pull"):
        assert re.search(rf'id="[\w.]*Client\.{name}"', client), name


def test_the_wheel_has_it(wheel: Path, site: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("service/web/site/")}
    assert packed == {f"service/web/site/{p.relative_to(site)}" for p in site.rglob("*") if p.is_file()}


@pytest.fixture
def client(site: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setattr(docs_site, "FOLDER", site)
    app = FastAPI()
    app.include_router(docs_site.router)
    return TestClient(app)


def test_the_service_serves_it_under_a_strict_policy(client: TestClient) -> None:
    first = client.get("/docs/site")
    assert first.status_code == 200
    assert first.url.path == docs_site.HOME
    policy = first.headers["content-security-policy"]
    assert "'unsafe-inline'" not in policy.split("style-src")[0], "scripts are named by their hashes"
    assert policy.count("'sha256-") == len(set(re.findall(r"<script>(.*?)</script>", first.text, re.DOTALL)))
    for address in Addresses(first.text).loads:
        assert client.get(f"/docs/site/{address}").status_code == 200, address
    assert client.get("/docs/site/reference/cli.html").status_code == 200


@pytest.mark.parametrize("name", ["../templates/base.html", "%2e%2e/apidocs.py", "nothing.html", "reference"])
def test_other_files_are_not_served(client: TestClient, name: str) -> None:
    assert client.get(f"/docs/site/{name}").status_code == 404


def test_pages_link_to_it_where_it_is_built(
    monkeypatch: pytest.MonkeyPatch, site: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(docs_site, "FOLDER", site)
    assert templating.documentation() == docs_site.HOME
    monkeypatch.setattr(docs_site, "FOLDER", tmp_path)
    assert templating.documentation() is None
    assert 'href="{{ documentation() }}"' in (ROOT / "service/web/templates/base.html").read_text()


def test_the_comparison_is_made_from_the_benchs_figures() -> None:
    record = json.loads(comparison.KEPT.read_text())
    assert comparison.PAGE.read_text() == comparison.page(record), "run python -m scripts.comparison"
    assert comparison.FIGURE.read_text() == comparison.figure(record)
    assert set(record["versions"]) == set(comparison.PACKAGES)
    for network, tools in record["networks"].items():
        assert set(comparison.TOOLS) <= set(tools), network
