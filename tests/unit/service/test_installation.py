"""Which folders a sandboxed process may read to import its packages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from service.runner.jail.sandbox import installation


def test_packages_of_another_prefix_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pip install --user`, a .pth file and PYTHONPATH put such folders on sys.path."""
    for name in ("lib/site-packages", "lib/dist-packages", "project", "home"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [*sys.path, "", *(str(path) for path in tmp_path.rglob("*"))])
    found = {Path(path) for path in installation() if Path(path).is_relative_to(tmp_path)}
    assert found == {tmp_path / "lib/site-packages", tmp_path / "lib/dist-packages"}
