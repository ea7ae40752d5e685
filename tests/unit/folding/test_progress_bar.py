"""The bar of a notebook and the one of a terminal."""

from __future__ import annotations

import pytest

from folding import progress_bar as bars
from folding.progress import Event


@pytest.mark.parametrize("notebook", [True, False])
def test_it_shows_stages_and_no_escape_sequences(
    notebook: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bars, "in_notebook", lambda: notebook)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with bars.progress_bar(("read", "fold")) as listen:
        listen(Event("read", 0.5, "layer \x1b[31mred"))
        listen(Event("fold", 1.0))
    shown = capsys.readouterr().err
    assert "\x1b[31mred" not in shown
    if notebook:  # tqdm writes at once, rich's thread a tenth of a second later
        assert "reading the model" in shown
        assert "25 %" in shown
        assert "?[31mred" in shown


def test_a_plain_interpreter_is_no_notebook() -> None:
    assert not bars.in_notebook()
