"""The drawings of one job's report, by the name that a file of theirs has."""

from __future__ import annotations

from folding.report import Report
from service.web.charts import error_by_layer, latency, sizes
from service.web.charts.chart import Chart


def latency_chart(report: Report) -> Chart | None:
    """Return the small multiple: batch sizes and threads where they were measured, else what there is."""
    found = latency.rows(report.latency)
    return latency.chart([row for row in found if row.threads is not None] or found)


def charts(report: Report) -> dict[str, Chart]:
    """Return every drawing of a report by name, but those of single layers."""
    found = [*error_by_layer.charts(report), latency_chart(report), sizes.chart(report)]
    return {chart.name: chart for chart in found if chart is not None}
