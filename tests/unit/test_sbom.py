"""The bill of materials and the licences of what is shipped."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from scripts import sbom

# What may be shipped beside an Apache-2.0 program without conditions on that program. LGPL and MPL stand for
# packages that are installed as they are, from their own files, and not changed.
ALLOWED = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "LGPL-3.0-only", "MIT", "MIT-0",
    "MPL-2.0", "PSF-2.0", "Zlib",
}  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("sbom")
    paths = sbom.write(folder)
    return folder, json.loads(paths[0].read_text())


def test_it_is_cyclonedx(written: tuple[Path, dict[str, Any]]) -> None:
    folder, document = written
    assert document["bomFormat"] == "CycloneDX"
    assert document["specVersion"] == "1.6"
    (path,) = folder.glob("*.cdx.json")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(path.read_text()) is None


def test_every_pinned_package_is_in_it(written: tuple[Path, dict[str, Any]]) -> None:
    _, document = written
    found = {part["name"]: part for part in document["components"]}
    pinned = {pin.name: pin for pin in sbom.pins()}
    assert len(pinned) > 60
    assert found.keys() == pinned.keys()
    for name, part in found.items():
        assert part["version"] == pinned[name].version == metadata.version(name)
        assert part["purl"] == f"pkg:pypi/{name}@{part['version']}"
        assert {row["content"] for row in part["hashes"]} == set(pinned[name].hashes)
        assert part["licenses"]
    assert document["metadata"]["component"]["name"] == "bnfold"
    depends = {row["ref"]: row.get("dependsOn", []) for row in document["dependencies"]}
    onnx = next(ref for ref in depends if ref.startswith("onnx@"))
    assert any(ref.startswith("numpy@") for ref in depends[onnx])


def test_licences_allow_what_we_do() -> None:
    for pin in sbom.pins():
        said = sbom.licence(sbom.installed(pin))
        choices = [set(re.findall(r"[\w.-]+", each)) - {"AND", "WITH"} for each in said.split(" OR ")]
        assert any(choice <= ALLOWED for choice in choices), f"{pin.name}: {said}"


def test_licence_texts_are_collected(written: tuple[Path, dict[str, Any]]) -> None:
    text = (written[0] / "THIRD_PARTY_LICENSES.txt").read_text()
    for pin in sbom.pins():
        assert f"\n{pin.name} {pin.version}: " in text
    assert "ThirdPartyNotices.txt" in text, "ONNX Runtime's own list of what it contains"
    without = text.count("carries no licence text")
    assert without <= 5, "packages without a licence text are few"


def test_the_same_pins_make_the_same_bytes(written: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    for path in sbom.write(tmp_path):
        assert path.read_bytes() == (written[0] / path.name).read_bytes()


def test_a_package_of_another_version_is_refused() -> None:
    with pytest.raises(LookupError, match="is pinned"):
        sbom.installed(sbom.Pin("numpy", "0.0.1", ()))
    with pytest.raises(LookupError, match="not installed"):
        sbom.installed(sbom.Pin("no-such-package-of-ours", "1", ()))
