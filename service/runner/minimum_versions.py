"""Versions below which a dependency has a published hole that concerns us; asserted before anything starts.

`pyproject.toml` says what the product needs to work; this table says what it needs to be safe. `make audit`
looks the pinned versions up in the public databases.
"""

from __future__ import annotations

import contextlib
from importlib import metadata
from typing import Final, NamedTuple

from packaging.version import Version

from folding.errors import TemporaryFailure


class Floor(NamedTuple):
    """version: the lowest safe one. mended: what was wrong before. advisories: of what is wrong before."""

    version: str
    mended: str
    advisories: str = ""


FLOORS: Final = {
    "keras": Floor(
        "3.15.0",
        "code, paths and sizes from a model's file, past safe_mode",
        "CVE-2025-1550 -8747 -9905 -9906 -12058 -12060 -49655 "
        "CVE-2026-0897 -1462 -1669 -9335 -11816 -12479 -12480 -12481 -12482 -12484 -12570",
    ),
    "tf-keras": Floor("2.18.0", "the same for legacy files"),
    "tensorflow-cpu": Floor("2.18.0", "crashes by crafted graphs"),
    "tensorflow": Floor("2.18.0", "crashes by crafted graphs"),
    "onnx": Floor(
        "1.22.0",
        "files outside of the model's folder, attributes set by a file, a crash of the version converter",
        "CVE-2024-5187 -27318 CVE-2026-27489 -34445 -34446 -34447 -44512",
    ),
    "onnxruntime": Floor("1.20.0", "crashes by crafted models"),
    "h5py": Floor("3.12.0", "HDF5 1.14.4 with its parser fixes"),
    "protobuf": Floor("6.33.5", "unbounded recursion in Python", "CVE-2025-4565 CVE-2026-0994"),
    "starlette": Floor(
        "1.3.1",
        "form limits that were not kept, paths and methods from unchecked headers, quadratic Range headers",
        "CVE-2025-62727 CVE-2026-48710 -48817 -48818 -54283",
    ),
    "python-multipart": Floor(
        "0.0.30", "quadratic and unbounded form parsing", "CVE-2024-53981 CVE-2026-40347 -42561 -53539"
    ),
    "h11": Floor("0.16.0", "lenient chunked bodies", "CVE-2025-43859"),
    "jinja2": Floor("3.1.6", "escapes from templates", "CVE-2025-27516"),
    "cryptography": Floor(
        "49.0.0", "OpenSSL fixes, names outside of what a certificate permits", "CVE-2026-69248"
    ),
    "mako": Floor("1.3.12", "templates outside of their folder", "CVE-2026-41205 -44307"),
}


class DependencyTooOld(TemporaryFailure):
    """An installed library has a known hole."""

    code = "dependency_too_old"


def hole(name: str, version: str) -> str | None:
    """What is wrong with this version of a distribution, None for nothing known."""
    floor = FLOORS.get(name)
    if floor is None or Version(version) >= Version(floor.version):
        return None
    known = f" ({floor.advisories})" if floor.advisories else ""
    return f"{name} {version} is older than {floor.version}: {floor.mended}{known}"


def too_old() -> dict[str, str]:
    """Offending distributions: name -> what was found and why it is not enough."""
    found = {}
    for name in FLOORS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            if problem := hole(name, metadata.version(name)):
                found[name] = problem
    return found


def assert_minimum_versions() -> None:
    """Raise DependencyTooOld where an installed library has a known hole."""
    if found := too_old():
        raise DependencyTooOld(
            f"{next(iter(found.values()))}.",
            hint=f"Upgrade {', '.join(sorted(found))}; the pinned versions are in constraints/.",
            details={"packages": sorted(found)},
        )
