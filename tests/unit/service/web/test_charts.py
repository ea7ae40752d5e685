"""Charts: what they show, that any number and any name is drawn, and that a file stands by itself."""

# ruff: noqa: E501  rows of data

from __future__ import annotations

import base64
import hashlib
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from folding.report import ArrayStats, SegmentReport
from service.web.charts import error_by_layer, histogram, job_charts, latency, sizes
from service.web.charts.chart import CSP, STYLE, Chart, ticks
from service.web.charts.error_by_layer import Series, draw, height_of
from service.web.charts.histogram import Counts
from tests.unit.service.web import sample
from tests.unit.service.web.conftest import Client

Open = Callable[..., Client]


def parsed(chart: Chart | None) -> ET.Element:
    """Return the file of a chart as a tree: it must be XML, whatever the names are."""
    assert chart is not None
    return ET.fromstring(chart.file)


def tooltips(chart: Chart | None) -> list[str]:
    return [str(item.text) for item in parsed(chart).iter("{http://www.w3.org/2000/svg}title")]


def texts(chart: Chart | None) -> list[str]:
    return [str(item.text) for item in parsed(chart).iter("{http://www.w3.org/2000/svg}text")]


def segment(value: str, difference: float, bound: float, **more: Any) -> SegmentReport:
    given: dict[str, Any] = {
        "step": "fold",
        "status": "bounded",
        "passed": True,
        "ratio": difference / bound,
        "scale": 2.0,
    }
    return SegmentReport(value=value, difference=difference, bound=bound, **(given | more))


def test_each_layer_stands_beside_its_bound() -> None:
    rows = [segment("conv1", 1e-8, 4e-8), segment("conv2", 0.0, 2e-8), segment("conv1", 2e-8, 4e-8),
            segment("free", 1e-8, 1e-8, status="measured"), segment("conv1", 3e-8, 6e-8, step="runtime")]  # fmt: skip
    fold, runtime = error_by_layer.of_segments(rows)
    assert fold.errors == {"conv1": 1e-8, "conv2": 0.0, "free": 5e-9}, (
        "of the scale, the one nearest its bound"
    )
    assert fold.bounds == {"conv1": 2e-8, "conv2": 1e-8}, "no line where nothing bounds"
    assert runtime.bounds == {"conv1": 3e-8}
    chart = draw("x", "X", "", [fold, runtime], None)
    assert "conv1: 1e-08 (fold, in float64), bound 2e-08" in tooltips(chart)
    assert [item.get("class") for item in parsed(chart).iter() if item.get("class") == "bound"]
    assert {"conv1", "conv2", "free", "0", "its bound"} <= set(texts(chart))


def test_exact_zeros_stand_below_the_smallest_error() -> None:
    span = (-9, -6)
    assert height_of(0.0, span) > height_of(1e-9, span) > height_of(1e-7, span) > height_of(1.0, span)


def test_the_first_divergence_and_every_provider_are_marked() -> None:
    report = sample.report()
    cpu, cuda = error_by_layer.of_drift(report.drift)
    assert (cpu.label, cuda.label) == ("cpu", "cuda")
    chart = draw("x", "X", "", [cpu, cuda], "block2/relu")
    assert "first divergence" in texts(chart)
    ringed = [item for item in parsed(chart).iter() if "first" in (item.get("class") or "").split()]
    assert len(ringed) == 2


def test_a_long_chart_keeps_the_worst_of_each_run_and_the_first_divergence() -> None:
    errors = {f"v{i}": 1e-7 for i in range(3000)} | {"v1234": 0.5}
    names = error_by_layer.thinned([Series("cpu", errors), Series("cuda", errors)], "v7")
    assert len(names) <= error_by_layer.POINTS + 1
    assert {"v7", "v1234"} <= set(names)
    assert names == sorted(names, key=lambda name: int(name[1:]))


NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
NAMES = st.text(max_size=40) | st.just(sample.HOSTILE) | st.just("a\x00b\x1b]]>")


@given(st.dictionaries(NAMES, NUMBERS, min_size=1, max_size=40), st.booleans())
def test_any_error_and_any_name_is_drawn(errors: dict[str, float], bounded: bool) -> None:
    series = Series("cpu", errors, {name: error for name, error in errors.items() if bounded})
    chart = draw("x", "X", "", [series], next(iter(errors)))
    assert (chart is None) is (not any(math.isfinite(error) for error in errors.values()))
    if chart is not None:
        parsed(chart)
        assert "nan" not in re.sub("<title>.*?</title>|<text.*?</text>", "", chart.file, flags=re.S)
        assert "<script" not in chart.inline


@given(
    st.floats(-1e30, 1e30), st.floats(-1e30, 1e30), st.lists(st.integers(0, 10**9), min_size=1, max_size=50)
)
def test_any_histogram_has_both_axes(low: float, high: float, counts: list[int]) -> None:
    low, high = min(low, high), max(low, high)
    chart = histogram.draw("h", "H", "", low, high, [Counts("", "after", counts)])
    axes = [item for item in parsed(chart).iter() if item.get("class") == "axis"]
    assert len(axes) >= 3, "two axes and at least one mark on them"
    for item in parsed(chart).iter("{http://www.w3.org/2000/svg}rect"):
        if item.get("class") == "after":
            assert 0 <= float(str(item.get("x"))) <= chart.width
            assert 0 <= float(str(item.get("y"))) <= chart.height


def test_a_histogram_says_its_numbers() -> None:
    stats = sample.stats(np.linspace(-1, 3, 64), "gamma")
    chart = histogram.of_stats("gamma", "Gamma", stats)
    assert chart is not None
    assert "64 values from -1 to 3" in chart.words
    assert {"-1", "0", "3", "channels"} <= set(texts(chart))
    assert any(words.startswith("-1 to ") for words in tooltips(chart))
    assert histogram.of_stats("x", "X", ArrayStats(dtype="float32", size=0)) is None


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-5, 7), (1e-9, 3e-9), (0, 1e30), (999, 1000), (0, 0.07)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 3 <= len(found) <= 11
    assert found == sorted(set(found))
    assert all(low - 1e-9 * abs(high) <= tick <= high * (1 + 1e-9) for tick in found)


def measured(middle: float, **more: Any) -> dict[str, Any]:
    return {"median": middle, "low": middle * 0.9, "high": middle * 1.1, "runs": 30} | more


def test_latency_is_a_small_multiple_over_batch_and_threads_with_intervals() -> None:
    record = {"cpu": {"enable_all": {"before": measured(0.002), "after": measured(0.001)}} | {
        f"enable_all batch {batch}, {threads} threads": {
            "before": measured(0.002 * batch / threads), "after": measured(0.001 * batch / threads),
            "batch": batch, "threads": threads,
        }
        for batch in (1, 8, 32) for threads in (1, 2)
    }}  # fmt: skip
    report = sample.report().model_copy(update={"latency": record})
    chart = job_charts.latency_chart(report)
    assert {"batch 1", "batch 8", "batch 32", "1 thread", "2 threads"} <= set(texts(chart))
    bars = [item for item in parsed(chart).iter() if item.get("class") in ("before", "after")]
    assert len(bars) == 2 * 6 + 2, "a pair in each cell, and the legend"
    whiskers = [item for item in parsed(chart).iter() if item.get("class") == "whisker"]
    assert len(whiskers) == 3 * 2 * 6
    assert texts(chart).count("2.00× faster") == 6
    assert [row.runs for row in latency.rows(record)] == [30] * 7
    assert latency.chart([]) is None


def test_size_before_and_after_has_the_source_beside_the_artifact() -> None:
    report = sample.report()
    report.source.bytes = 204_800_000
    found = {what: (before, after) for what, before, after, _, _ in sizes.rows(report)}
    assert found["File"] == (204_800_000, 102_400_000)
    assert found["Nodes"] == (32, 24)
    assert "204.8 MB before" in texts(sizes.chart(report))
    report.source.bytes = 0
    assert "File" not in {what for what, *_ in sizes.rows(report)}, "a report of an older version"


def test_a_chart_of_a_job_is_a_file_that_stands_by_itself(open_client: Open) -> None:
    report = sample.report(hostile=True)
    report.source.bytes = 1000
    client = open_client(report=report)
    page = client.get("/jobs/job_1").text
    names = re.findall(r'href="/jobs/job_1/charts/([a-z-]+)\.svg"', page)
    assert {"error-by-layer", "latency", "size"} <= set(names)
    for name in names:
        assert f'data-png="/jobs/job_1/charts/{name}.svg"' in page
        answer = client.get(f"/jobs/job_1/charts/{name}.svg")
        assert answer.headers["content-type"].startswith("image/svg+xml")
        assert answer.headers["content-security-policy"] == CSP
        assert "script" not in answer.headers["content-security-policy"]
        ET.fromstring(answer.text)
        assert STYLE in answer.text
    hashed = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    assert f"'sha256-{hashed}'" in CSP
    assert client.get("/jobs/job_1/charts/nope.svg").status_code == 404


def test_a_report_without_numbers_has_no_charts() -> None:
    bare = sample.report().model_copy(update={"drift": [], "segments": [], "latency": None})
    assert set(job_charts.charts(bare)) == {"size"}
