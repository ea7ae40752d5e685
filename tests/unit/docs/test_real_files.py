"""The page of strangers' files is what the committed table says."""

from __future__ import annotations

from tests.real.files import PAGE, page, table


def test_the_page_shows_the_committed_table() -> None:
    assert PAGE.read_text() == page(table()), "run `make real REAL_ARGS=--update`"
