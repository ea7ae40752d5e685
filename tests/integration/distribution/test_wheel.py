"""The wheel in a fresh environment: the command, the library, the service with its pages."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import httpx
import pytest

from tests.integration.distribution.conftest import Installed
from tests.support.live import Live, live_service
from tests.support.networks import residual
from tests.support.paths import ROOT

PACKAGES = ("bnfold", "folding", "service")
# Files of these folders in the wheel that git does not have: `make docs-site` writes them.
BUILT = ("service/web/site/",)


def metadata(wheel: Path) -> tuple[list[str], str]:
    """Return the names of a wheel's files and its METADATA."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return archive.namelist(), archive.read(name).decode()


def test_every_file_of_the_packages_is_in_the_wheel_and_nothing_else(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    expected = {name for name in listed if (ROOT / name).exists()}
    names, _ = metadata(wheel)
    packed = {n for n in names if ".dist-info/" not in n and not n.startswith(BUILT)}
    assert {"service/web/templates/base.html", "service/web/static/base.css", "bnfold/py.typed"} <= packed
    assert packed == expected


def test_metadata_has_what_an_index_shows(wheel: Path) -> None:
    names, text = metadata(wheel)
    fields = Parser().parsestr(text)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert fields["Name"] == "bnfold"
    assert fields["License-Expression"] == "Apache-2.0"
    assert fields["Requires-Python"] == project["requires-python"]
    assert set(fields.get_all("Provides-Extra")) == set(project["optional-dependencies"])
    assert "# bnfold" in text
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_command(installed: Installed) -> None:
    residual(installed.folder / "net.onnx", 2)
    assert re.fullmatch(r"bnfold \d+\.\d+\.\d+\S*\n", installed.run("bnfold", "--version"))
    assert installed.run("python", "-m", "bnfold", "--version") == installed.run("bnfold", "--version")
    folded = json.loads(installed.run("bnfold", "fold", "net.onnx", "-o", "folded.onnx", "--json"))
    assert folded["verdict"] == "pass"
    assert (installed.folder / "folded.onnx").stat().st_size > 0
    assert "never_updated" in installed.run("bnfold", "explain", "never_updated")


def test_the_library_comes_from_the_wheel(installed: Installed) -> None:
    residual(installed.folder / "library.onnx", 2)
    code = """
import bnfold, folding, service, sys
for package in (bnfold, folding, service):
    assert package.__file__.startswith(sys.prefix), package.__file__
    print(package.__file__)
result = bnfold.fold("library.onnx")
assert result.verdict.value == "pass", result
assert bnfold.__version__ == folding.__version__
assert result.artifact and result.report.graph.batch_norms_after == 0
"""
    assert str(ROOT) not in installed.run("python", "-c", code).replace(str(installed.folder), "")


@pytest.fixture(scope="module")
def live(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    command = [str(installed.bin / "bnfold"), "serve"]
    folder = tmp_path_factory.mktemp("served")
    with live_service(folder, command=command, environment=installed.environment()) as service:
        yield service


def test_the_service_folds_and_shows_pages(live: Live) -> None:
    model = residual(live.folder / "net.onnx", 1).read_bytes()
    with httpx.Client(base_url=live.url, trust_env=False, timeout=120) as http:
        page = http.get("/")
        assert page.status_code == 200
        linked = re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text)
        assert len(linked) >= 4
        assert 'href="/docs/site/index.html"' in page.text, "each page links to the documentation"
        for address in (
            *linked,
            "/docs/site/index.html",
            "/docs",
            "/jobs",
            "/releases",
            "/openapi.json",
            "/metrics",
        ):
            assert http.get(address).status_code == 200, address
        folded = http.post("/v1/fold", content=model)
        assert folded.status_code == 200, folded.text
        (job,) = http.get("/v1/jobs").json()["jobs"]
        report = http.get(f"/v1/jobs/{job['id']}/report", headers={"accept": "text/html"})
        assert report.status_code == 200
        assert "Equivalent" in report.text
        shown = http.get(f"/jobs/{job['id']}", headers={"accept": "text/html"})
        assert shown.status_code == 200
