"""The folder goes whatever ends the work, also in the moment in which it is made."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from folding.temporary_folder import temporary_folder


def test_it_is_private_and_goes(tmp_path: Path) -> None:
    with temporary_folder(tmp_path) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("x")
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_the_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), temporary_folder(tmp_path):
        raise ValueError("mine")
    assert list(tmp_path.iterdir()) == []


def test_a_signal_just_after_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Path.mkdir

    def made_and_interrupted(self: Path, mode: int = 0o777) -> None:
        make(self, mode)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Path, "mkdir", made_and_interrupted)
    with pytest.raises(KeyboardInterrupt), temporary_folder(tmp_path):
        pytest.fail("the work must not begin")
    assert list(tmp_path.iterdir()) == []
