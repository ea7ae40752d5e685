"""Write what a release ships of other people: a CycloneDX bill of materials, and their licences.

    python -m scripts.sbom FOLDER

FOLDER gets `bnfold-VERSION.cdx.json` (CycloneDX 1.6: every package of constraints/runtime.txt that this
platform installs, with version, hashes, licence and dependencies) and `THIRD_PARTY_LICENSES.txt` (their
licence texts, as the packages carry them). Both are the same for the same pins: no time stamp in them.
"""

from __future__ import annotations

import json
import re
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.spdx import is_expression, is_supported_id
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PINS = ROOT / "constraints" / "runtime.txt"
_NAMESPACE = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
# In the package's metadata, or on its first level (`onnxruntime/ThirdPartyNotices.txt`).
_TEXTS = re.compile(
    r"(^|\.dist-info/(.*/)?|^[^/]+/)[^/]*(licen[cs]e|copying|notice|copyright)[^/]*$", re.IGNORECASE
)
# Classifiers that name a licence, as SPDX writes it. "BSD License" alone names a family.
_SPDX = {
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Library or Lesser General Public License (LGPL)": "LGPL-3.0-only",
}
# Packages whose metadata names no licence that SPDX knows: what their licence file is.
_READ_BY_HAND = {"namex": "Apache-2.0"}


@dataclass(frozen=True)
class Pin:
    """One package of the lock file: canonical name, version, SHA-256 of each of its files."""

    name: str
    version: str
    hashes: tuple[str, ...]


def pins(path: Path = PINS) -> Iterator[Pin]:
    """Yield the packages that this platform installs, in the file's order."""
    for entry in path.read_text().replace("\\\n", " ").splitlines():
        if not entry.strip() or entry.startswith("#"):
            continue
        required = Requirement(entry.split(" --hash=")[0].strip())
        if required.marker is None or required.marker.evaluate():
            (version,) = (each.version for each in required.specifier)
            yield Pin(canonicalize_name(required.name), version, tuple(re.findall(r"sha256:(\w+)", entry)))


def licence(package: metadata.Distribution) -> str:
    """Return the SPDX expression of a package's licence. Raises: LookupError when none can be told."""
    name = canonicalize_name(package.metadata["Name"])
    if name in _READ_BY_HAND:
        return _READ_BY_HAND[name]
    if expression := package.metadata.get("License-Expression"):
        return str(expression)
    classified = [
        row.rsplit(" :: ", 1)[-1]
        for row in package.metadata.get_all("Classifier", [])
        if row.startswith("License :: ")
    ]
    known = sorted({_SPDX[word] for word in classified if word in _SPDX})
    if known:
        return " AND ".join(known)
    said = str(package.metadata.get("License", "")).strip()
    said = _WORDS.get(said.lower(), said)
    if is_supported_id(said) or is_expression(said):
        return said
    raise LookupError(f"{name} names no licence that SPDX knows: {said[:60]!r}, {classified}")


_WORDS = {
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license v2.0": "Apache-2.0",
    "mit license": "MIT",
    "3-clause bsd license": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause",
    "bsd": "BSD-3-Clause",
}


def texts(package: metadata.Distribution) -> Iterator[tuple[str, str]]:
    """Yield (file name, text) of the licence files that a package carries."""
    for file in package.files or ():
        if _TEXTS.search(str(file)) and Path(file).suffix not in (".py", ".pyc", ".pyi"):
            path = Path(str(package.locate_file(file)))
            if path.is_file():
                yield path.name, path.read_text(encoding="utf-8", errors="replace").strip()


def bill(version: str) -> Bom:
    """Return the bill of materials of bnfold with the packages of the lock file.

    Raises: LookupError when a pinned package is not installed in its version, or names no licence.
    """
    licences, components = LicenseFactory(), {}
    for pin in pins():
        package = installed(pin)
        components[pin.name] = Component(
            name=pin.name,
            version=pin.version,
            type=ComponentType.LIBRARY,
            bom_ref=f"{pin.name}@{pin.version}",
            purl=PackageURL("pypi", None, pin.name, pin.version),
            licenses=[licences.make_from_string(licence(package))],
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=text) for text in pin.hashes],
        )
    top = Component(
        name="bnfold", version=version, type=ComponentType.APPLICATION, bom_ref=f"bnfold@{version}",
        purl=PackageURL("pypi", None, "bnfold", version), licenses=[licences.make_from_string("Apache-2.0")],
    )  # fmt: skip
    made = Bom(components=components.values())
    made.metadata.component = top
    made.serial_number = uuid.uuid5(_NAMESPACE, f"bnfold {version} " + " ".join(sorted(components)))
    made.register_dependency(top, components.values())
    for name, component in components.items():
        needed = {canonicalize_name(Requirement(row).name) for row in metadata.requires(name) or ()}
        made.register_dependency(component, [components[each] for each in sorted(needed & components.keys())])
    return made


def installed(pin: Pin) -> metadata.Distribution:
    """Return the installed package of a pin. Raises: LookupError when it is another version."""
    try:
        package = metadata.distribution(pin.name)
    except metadata.PackageNotFoundError:
        raise LookupError(f"{pin.name} is pinned and not installed: run `make setup`") from None
    if package.version != pin.version:
        raise LookupError(f"{pin.name} {package.version} is installed, {pin.version} is pinned")
    return package


def as_json(made: Bom) -> str:
    """Return CycloneDX 1.6 as JSON, without the time at which it was written."""
    document = json.loads(JsonV1Dot6(made).output_as_string())
    document["metadata"].pop("timestamp", None)
    return json.dumps(document, indent=2, sort_keys=True)


def notices() -> str:
    """Return the licence texts of what is shipped, one package after the other."""
    parts = ["Licences of the packages that a release of bnfold installs or ships in its images.\n"]
    for pin in pins():
        package = installed(pin)
        parts.append(f"{'=' * 80}\n{pin.name} {pin.version}: {licence(package)}\n{'=' * 80}\n")
        found = list(texts(package))
        parts += [f"--- {name}\n{text}\n" for name, text in found]
        if not found:
            parts.append(f"(The package carries no licence text; SPDX names it: {licence(package)}.)\n")
    return "\n".join(parts)


def write(folder: Path) -> list[Path]:
    """Write both files into `folder` and return them."""
    version = metadata.version("bnfold")
    folder.mkdir(parents=True, exist_ok=True)
    made = [folder / f"bnfold-{version}.cdx.json", folder / "THIRD_PARTY_LICENSES.txt"]
    made[0].write_text(as_json(bill(version)) + "\n", encoding="utf-8")
    made[1].write_text(notices(), encoding="utf-8")
    return made


if __name__ == "__main__":
    for path in write(Path(sys.argv[1] if len(sys.argv) > 1 else "dist")):
        print(path)
