"""Versions below which a dependency has a published hole that concerns us; asserted before anything starts.

`pyproject.toml` says what the product needs to work; this table says what it needs to be safe. `make audit`
looks the pinned versions up in the public databases.
"""

from __future__ import annotations

import re
from importlib import metadata
from typing import Final

from folding.errors import TemporaryFailure

# distribution -> (lowest safe version, what was mended by then)
FLOORS: Final = {
    "keras": (
        "3.14.0",
        "safe_mode bypasses by configuration and archive (CVE-2025-1550, -8747, -9905, -9906, CVE-2026-1462)",
    ),
    "tf-keras": ("2.18.0", "the same for legacy files"),
    "tensorflow-cpu": ("2.18.0", "crashes by crafted graphs"),
    "tensorflow": ("2.18.0", "crashes by crafted graphs"),
    "onnx": ("1.17.0", "external data outside of the model's folder (CVE-2024-27318, -5187)"),
    "onnxruntime": ("1.20.0", "crashes by crafted models"),
    "h5py": ("3.12.0", "HDF5 1.14.4 with its parser fixes"),
    "protobuf": ("4.25.8", "unbounded recursion in Python (CVE-2025-4565)"),
    "starlette": ("0.49.1", "quadratic Range headers (CVE-2025-62727)"),
    "python-multipart": ("0.0.18", "unbounded form parsing (CVE-2024-53981)"),
    "h11": ("0.16.0", "lenient chunked bodies (CVE-2025-43859)"),
    "jinja2": ("3.1.6", "escapes from templates (CVE-2025-27516)"),
    "cryptography": ("44.0.1", "OpenSSL fixes"),
}


class DependencyTooOld(TemporaryFailure):
    """An installed library has a known hole."""

    code = "dependency_too_old"


def too_old() -> dict[str, str]:
    """Offending distributions: name -> what was found and why it is not enough."""
    found = {}
    for name, (floor, reason) in FLOORS.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if _numbers(version) < _numbers(floor):
            found[name] = f"{name} {version} is older than {floor}: {reason}"
    return found


def assert_floors() -> None:
    """Raise DependencyTooOld where an installed library has a known hole."""
    if found := too_old():
        raise DependencyTooOld(
            f"{next(iter(found.values()))}.",
            hint=f"Upgrade {', '.join(sorted(found))}; the pinned versions are in constraints/.",
            details={"packages": sorted(found)},
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:4])
