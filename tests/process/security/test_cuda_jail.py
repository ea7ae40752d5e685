"""What a CUDA runner is given, as far as it can be seen without a device."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.runner.config import environment


def test_its_environment_names_the_device_and_nothing_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/local/cuda/lib64")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-tell")
    names = environment(tmp_path, cuda=True)
    assert names["CUDA_VISIBLE_DEVICES"] == "1"
    assert names["LD_LIBRARY_PATH"] == "/usr/local/cuda/lib64"
    assert "AWS_SECRET_ACCESS_KEY" not in names
    assert environment(tmp_path, cuda=False)["CUDA_VISIBLE_DEVICES"] == ""
