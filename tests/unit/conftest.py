"""The fence around unit tests: no TensorFlow, no second process. `make check` runs them in seconds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

FRAMEWORKS = {"tensorflow", "tf2onnx", "tf_keras", "keras"}


class Fence:
    """Refuse imports of the frameworks; the first of `sys.meta_path` is asked first."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> None:
        """Raise for a framework, and leave every other module to the other finders."""
        if name.split(".")[0] in FRAMEWORKS:
            raise AssertionError(f"a unit test imports {name}: move it to tests/integration")


def refuse(*args: Any, **kwargs: Any) -> None:
    """Stand in for `subprocess.Popen.__init__`."""
    raise AssertionError(
        f"a unit test starts a process ({args[1:2]}): move it to tests/integration or tests/process"
    )


@pytest.fixture(autouse=True)
def fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the fence up for the time of one test."""
    monkeypatch.setattr(sys, "meta_path", [Fence(), *sys.meta_path])
    monkeypatch.setattr(subprocess.Popen, "__init__", refuse)
