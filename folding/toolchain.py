"""Versions of everything that decides what an artifact looks like; part of report and cache key."""

from __future__ import annotations

from functools import cache
from importlib import metadata

PACKAGES = (
    "bnfold",
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "tf-keras",
    "tf2onnx",
    "protobuf",
    "h5py",
)


def version() -> str:
    """Return the version of bnfold, or "0" where it runs from a folder that is not installed."""
    return versions().get("bnfold", "0")


@cache
def versions() -> dict[str, str]:
    """Installed versions by distribution name; absent ones are left out. Imports nothing."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
