"""A package that adds a format and a provider, installed beside the wheel and used inside the sandbox."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.integration.distribution.conftest import Installed
from tests.support.networks import residual

MODULE = '''
"""Reads ONNX files that are written backwards, and runs artifacts on the CPU under another name."""

import dataclasses

from folding.sources.onnx.importer import FORMAT as ONNX
from folding.verify.providers.cpu import Cpu


class Backwards:
    name = "backwards"

    def sniff(self, upload):
        return upload.path.is_file() and upload.path.read_bytes()[:6] == b"DRAWER"

    def load(self, upload, options, workdir, progress):
        return ONNX.load(self._turned(upload, workdir), options, workdir, progress)

    def inspect(self, upload, options, workdir):
        return ONNX.inspect(self._turned(upload, workdir), options, workdir)

    def _turned(self, upload, workdir):
        path = workdir / "turned.onnx"
        path.write_bytes(upload.path.read_bytes()[6:][::-1])
        return dataclasses.replace(upload, path=path, root=workdir, files=(path.name,))


class Twin(Cpu):
    name = "twin"

    def variants(self):
        return [("twin", True)]


FORMAT = Backwards()
'''
ENTRY_POINTS = """[bnfold.sources]
backwards = backwards_models:FORMAT

[bnfold.providers]
twin = backwards_models:Twin
"""


def plug_in(folder: Path) -> Path:
    """Write the wheel of a distribution with one module and two entry points."""
    path, info = folder / "backwards_models-1.0-py3-none-any.whl", "backwards_models-1.0.dist-info"
    files = {
        "backwards_models.py": MODULE,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: backwards-models\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": ENTRY_POINTS,
    }
    record = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in (files | {f"{info}/RECORD": record}).items():
            wheel.writestr(name, text)
    return path


@pytest.fixture(scope="module")
def with_plug_in(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    wheel = plug_in(tmp_path_factory.mktemp("plug-in"))
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(installed.bin / "python"), "install", "--quiet",
         "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel)],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    model = residual(installed.folder / "plain.onnx", 2).read_bytes()
    (installed.folder / "net.drawer").write_bytes(b"DRAWER" + model[::-1])
    return installed


def test_the_format_and_the_provider_are_used_in_the_sandbox(with_plug_in: Installed) -> None:
    arguments = ("net.drawer", "-o", "drawer.onnx", "--provider", "cpu", "--provider", "twin", "--json")
    report = json.loads(with_plug_in.run("bnfold", "fold", *arguments))
    assert report["verdict"] == "pass"
    assert report["sandbox"] != "none"
    rows = {row["provider"]: row["status"] for row in report["verification"]}
    assert rows["twin"] == "pass"
    assert len(report["batch_norms"]) == 2


def test_the_library_reads_it_too(with_plug_in: Installed) -> None:
    code = "import bnfold; found = bnfold.inspect('net.drawer'); print(len(found.inspection.batch_norms))"
    assert with_plug_in.run("python", "-c", code) == "2\n"
