"""One batch norm of a job: found by name in the report, with its drawings."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from starlette.requests import Request

from folding.report import NormReport
from service.web.api_client import Api, ApiError
from service.web.api_records import job_of
from service.web.charts import calibration, histogram
from service.web.charts.chart import Chart

STATISTICS = {
    "moving_mean": "Moving mean",
    "moving_variance": "Moving variance",
    "gamma": "Gamma",
    "beta": "Beta",
}
PAGE = 300  # batch norms of one answer


@dataclass(frozen=True)
class Layer:
    """A batch norm and its drawings; `compared` beside data, where some was given."""

    norm: NormReport
    charts: list[Chart] = field(default_factory=list)


async def load(request: Request, job_id: str, name: str) -> tuple[dict[str, Any], Layer]:
    """Return the job and the layer. Raises ApiError 404 where the report has no such batch norm."""
    path = f"/v1/jobs/{quote(job_id, safe='')}"
    async with Api(request) as api:
        job = job_of(await api.get(path))
        summary = await api.get(f"{path}/report", part="summary")
        norm = _named(summary.get("batch_norms", []), name)
        after: int | None = 0 if norm is None and "batch_norm_totals" in summary else None
        while norm is None and after is not None:
            page = await api.get(f"{path}/norms", after=after, limit=PAGE)
            norm, after = _named(page["batch_norms"], name), page["next"]
    if norm is None:
        raise ApiError(
            404, {"title": "No such layer", "detail": f"The report has no batch norm {name[:200]!r}."}
        )
    found = NormReport.model_validate_json(json.dumps(norm))
    return job, Layer(found, [*_measured(summary, name), *_stored(found)])


def _named(norms: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    return next((norm for norm in norms if norm.get("name") == name), None)


def _stored(norm: NormReport) -> list[Chart]:
    arrays = [(role.replace("_", "-"), title, norm.stats.get(role)) for role, title in STATISTICS.items()]
    arrays.append(("amplification", "Amplification: gamma / √(variance + ε)", norm.amplification))
    drawn = (histogram.of_stats(name, title, stats) for name, title, stats in arrays if stats is not None)
    return [chart for chart in drawn if chart is not None]


def _measured(summary: dict[str, Any], name: str) -> list[Chart]:
    found = calibration.view(summary.get("calibration"))
    rows = found.layers if found is not None else []
    return next((row.charts for row in rows if row.name == name), [])
