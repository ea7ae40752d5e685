"""Bytes, counts and seconds have one form everywhere."""

from __future__ import annotations

import doctest
import re

import pytest

from folding.report import figures
from folding.report.render import text as report_text
from service.cli import text as cli_text
from service.web.rendering import formats
from tests.support.paths import ROOT


def test_the_examples_hold() -> None:
    assert doctest.testmod(figures).failed == 0


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_951, "1.0 MB"),
        (1e15, "1000.0 TB"),
    ],
)
def test_sizes(value: float, shown: str) -> None:
    assert figures.size(value) == shown
    assert formats.size(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0 ns"),
        (1e-6, "1 µs"),
        (1.0, "1.0 s"),
        (119.94, "119.9 s"),
        (120, "2 min 0 s"),
        (3599.6, "1 h 0 min"),
    ],
)
def test_durations(value: float, shown: str) -> None:
    assert figures.seconds(value) == shown
    assert formats.duration(value) == shown


def test_no_surface_has_a_form_of_its_own() -> None:
    for module in (cli_text, report_text):
        assert not {"size", "seconds", "duration"} & set(vars(module))


def test_nobody_else_writes_numbers() -> None:
    """Thousands, bytes and seconds in words for people come from this module alone."""
    by_hand = re.compile(
        r":,[.\d]*\}|:[.\d]+f\} (?:s|ms|B|kB|MB|GB|KiB|MiB|GiB)\b|(?:>> ?[123]0|/ 1e[369])\} [kMG]"
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for top in ("bnfold", "folding", "service")
        for path in sorted((ROOT / top).rglob("*.py"))
        if path.name != "figures.py"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if by_hand.search(line)
    ]
    assert found == []
