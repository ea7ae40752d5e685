"""A job's report in the forms that a link can ask for, and the part of it that draws the graphs."""

from __future__ import annotations

import json
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from folding.report import Report
from service.api import report_forms
from service.api.jobs_view import REPORT_CSP
from service.jobs import repository
from service.web.api_client import Api, ApiError
from service.web.charts import job_charts
from service.web.charts.chart import CSP, Chart
from service.web.forwarded import Forwarded
from service.web.graph.part import graph_part
from service.wiring import Services

router = APIRouter(include_in_schema=False)
REPORTS = {
    "html": "text/html",
    "json": "application/json",
    "md": "text/markdown",
    "xml": "application/xml",
}


@router.get("/jobs/{job_id}/graph.json")
async def graph(request: Request, job_id: str) -> Response:
    """What the graphs need: the report's part of it (most of a long report is histograms) and the layout."""
    path = f"/v1/jobs/{quote(job_id, safe='')}"
    headers = {"Cache-Control": "private, no-cache"}
    ports: Services | None = getattr(request.app.state, "services", None)
    async with Api(request) as api:
        if ports is not None:  # the drawing is no part of the documented API; the right to see the job is
            found = await api.get(path)
            made = await graph_of(ports, found["id"], headers)
            if made is not None:
                return made
        answer = await api.raw(f"{path}/report", accept="application/json")
    body = await run_in_threadpool(graph_part, answer.content)
    return Response(body, media_type="application/json", headers=headers)


async def graph_of(ports: Services, job_id: str, headers: dict[str, str]) -> Response | None:
    """Return the drawing of a long report, made once elsewhere; None for a short one."""
    report = await run_in_threadpool(report_digest, ports, job_id)
    if (
        report is None
        or await run_in_threadpool(report_forms.checked_size, ports, report) <= report_forms.SHORT
    ):
        return None
    return await report_forms.respond(ports, report, "graph", "application/json", headers)


def report_digest(ports: Services, job_id: str) -> str | None:
    """Of any tenant's job; the caller checked the right."""
    with ports.db.read() as connection:
        job = repository.load(connection, job_id)
    return job.report_digest if job is not None else None


@router.get("/jobs/{job_id}/charts/{name}.svg")
async def chart(request: Request, job_id: str, name: str) -> Response:
    """One drawing of a job's report as a file, for a document or a review."""
    path = f"/v1/jobs/{quote(job_id, safe='')}"
    async with Api(request) as api:
        body = await api.raw(f"{path}/report", accept="application/json", part="summary")
    found = (await run_in_threadpool(_charts, body.content)).get(name)
    if found is None:
        raise ApiError(404, {"title": "No such chart", "detail": "The report has no numbers for it."})
    headers = {"Cache-Control": "private, no-cache", "Content-Security-Policy": CSP}
    return Response(found.file, media_type="image/svg+xml", headers=headers)


def _charts(body: bytes) -> dict[str, Chart]:
    report = json.loads(body)
    report.pop("batch_norm_totals", None)
    return job_charts.charts(Report.model_validate(report))


@router.get("/jobs/{job_id}/report.{suffix}")
async def report_as(request: Request, job_id: str, suffix: str) -> Response:
    """The report in another form, for links: browsers can't send an Accept header by a click."""
    kind = REPORTS.get(suffix)
    if kind is None:
        raise ApiError(404, {"title": "No such report", "detail": f"Forms: {', '.join(REPORTS)}."})
    headers = {"Content-Disposition": f'inline; filename="bnfold-report.{suffix}"'}
    if suffix == "html":
        headers["Content-Security-Policy"] = REPORT_CSP
    return Forwarded(request, f"/v1/jobs/{quote(job_id, safe='')}/report", accept=kind, headers=headers)
