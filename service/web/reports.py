"""A job's report in the forms that a link can ask for, and the part of it that draws the graphs."""

from __future__ import annotations

import json
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from folding.report import GraphMap
from service.api.jobs_view import REPORT_CSP
from service.web.api_client import Api, ApiError
from service.web.graph import sugiyama

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
    async with Api(request) as api:
        answer = await api.raw(f"/v1/jobs/{quote(job_id, safe='')}/report", accept="application/json")
    body = await run_in_threadpool(_graph_part, answer.content)
    return Response(body, media_type="application/json", headers={"Cache-Control": "private, no-cache"})


def _graph_part(report: bytes) -> str:
    found = json.loads(report)
    wanted = ("name", "channels", "epsilon", "decision", "direction", "reason", "into", "certificate")
    norms = [{name: norm.get(name) for name in wanted} for norm in found.get("batch_norms", [])]
    graphs = found.get("graph_map")
    layout = sugiyama.layout(GraphMap.model_validate(graphs)).to_json() if graphs else None
    return json.dumps({"graph_map": graphs, "layout": layout, "batch_norms": norms}, separators=(",", ":"))


@router.get("/jobs/{job_id}/report.{suffix}")
async def report_as(request: Request, job_id: str, suffix: str) -> Response:
    """The report in another form, for links: browsers can't send an Accept header by a click."""
    kind = REPORTS.get(suffix)
    if kind is None:
        raise ApiError(404, {"title": "No such report", "detail": f"Forms: {', '.join(REPORTS)}."})
    async with Api(request) as api:
        answer = await api.raw(f"/v1/jobs/{quote(job_id, safe='')}/report", accept=kind)
    headers = {"Content-Disposition": f'inline; filename="bnfold-report.{suffix}"'}
    if suffix == "html":
        headers["Content-Security-Policy"] = REPORT_CSP
    return Response(answer.content, media_type=answer.headers["content-type"], headers=headers)
