"""Forms of reports: bounded where they say so, complete where they say so."""

from __future__ import annotations

import json

import pytest

from folding.report import Report
from service.reports import forms
from tests.unit.service.web import sample


def of(names: int, **more: object) -> bytes:
    return sample.report(names=names, layers=2).model_copy(update=more).to_json().encode()


@pytest.mark.parametrize("form", ["html", "markdown", "junit", "text"])
def test_renderings(form: str) -> None:
    report = sample.report().model_copy(update={"latency": None, "probes": []})
    assert len(forms.make(form, report.to_json().encode())) > 100


def test_a_short_report_is_its_own_summary() -> None:
    data = of(forms.SHOWN)
    found = json.loads(forms.make("summary", data))
    assert "batch_norm_totals" not in found
    assert Report.model_validate(found) == Report.model_validate_json(data).model_copy(
        update={"graph_map": None}
    )


def test_a_long_one_is_cut_and_counted() -> None:
    norms = [sample.norm(f"bn{i}", i, kept=i % 2 == 1, sick=i % 10 == 0) for i in range(2000)]
    found = json.loads(forms.make("summary", of(1, batch_norms=norms)))
    totals = found.pop("batch_norm_totals")
    assert totals == {"total": 2000, "folded": 1000, "health": {"never_updated": 200}}
    report = Report.model_validate(found)
    assert len(report.batch_norms) == 2 * forms.SHOWN
    assert [norm.name for norm in report.batch_norms[: forms.SHOWN]] == [f"bn{i}" for i in range(forms.SHOWN)]
    assert all(norm.decision == "kept" or norm.health[0].code != "ok" for norm in report.batch_norms[300:])


def test_every_range_of_lines_is_found_by_the_index() -> None:
    data = of(7)
    made = forms.make("norms", data)
    length = int(made[:9], 16)
    starts = json.loads(made[9 : 9 + length])
    lines = made[9 + length :]
    every = json.loads(data)["batch_norms"]
    assert len(starts) == len(every) + 1
    for first in range(len(every)):
        for last in range(first, len(every)):
            piece = lines[starts[first] : starts[last]].splitlines()
            assert [json.loads(line) for line in piece] == every[first:last]


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{}", b'{"batch_norms": 5}'])
@pytest.mark.parametrize("form", ["html", "statement"])
def test_what_is_no_report(form: str, data: bytes) -> None:
    with pytest.raises(ValueError):
        forms.make(form, data)
