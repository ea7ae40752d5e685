"""The pages. Each asks the API what it needs, shapes it with `views` and renders one template."""

from __future__ import annotations

import json
from typing import Any, Literal
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from folding.bundles import BUNDLES
from folding.errors import catalogue
from folding.report import HeadlineState, Report
from service.web import layers, snippets, views
from service.web.api_client import Api, ApiError, public_base
from service.web.api_records import download_name, inspection_of, job_of, problem_of
from service.web.charts import calibration, job_charts, latency, sizes
from service.web.charts.chart import CSP
from service.web.forms import options_form
from service.web.graph import netron
from service.web.norm_pages import NormPage, model_norms, norm_page, without_totals
from service.web.rendering.templating import render

router = APIRouter(include_in_schema=False)
UPLOADS = "/v1/uploads"
HISTORIES = 50  # channels whose history is fetched for the page
STATES = ("queued", "running", "stopping", "succeeded", "rejected", "failed", "cancelled")
SORTS = (
    ("newest", "newest first"),
    ("oldest", "oldest first"),
    ("name", "by name"),
    ("size", "largest first"),
)
STAGES = (
    ("read", "Read"),
    ("prepare", "Prepare"),
    ("find", "Find batch norms"),
    ("calibrate", "Calibrate"),
    ("health", "Judge health"),
    ("fold", "Fold"),
    ("clean", "Clean up"),
    ("export", "Export"),
    ("verify", "Verify"),
)
TITLES = ("Moving mean", "Moving variance", "Gamma", "Beta", "Amplification")


@router.get("/")
async def home(request: Request) -> Response:
    """Drop a model; the newest jobs below."""
    locked = False  # a visitor without a key may not upload: say so before, not after
    async with Api(request) as api:
        try:
            jobs = [job_of(row) for row in (await api.get("/v1/jobs", limit=6, kind="fold"))["jobs"]]
        except ApiError as error:
            if error.status != 401:
                raise
            jobs, locked = [], True
    return render(request, "home.html", jobs=jobs, uploads=UPLOADS, locked=locked)


@router.get("/jobs")
async def jobs(
    request: Request,
    state: str = "",
    health: str = "",
    search: str = "",
    sort: str = "",
    page_token: str = "",
    kind: Literal["fold", "verify"] = "fold",
) -> Response:
    """The list in the order that was asked for, one page at a time."""
    asked: dict[str, str | int] = {
        "kind": kind, "limit": 50, "state": state, "health": health, "search": search.strip()[:200],
        "sort": sort, "page_token": page_token,
    }  # fmt: skip
    async with Api(request) as api:
        page = await api.get("/v1/jobs", **{name: value for name, value in asked.items() if value})
    rows = [job_of(row) for row in page["jobs"]]
    kept = {
        "kind": "" if kind == "fold" else kind,
        "state": state,
        "health": health,
        "search": search,
        "sort": sort,
        "page_token": page.get("next") or "",
    }
    more = {name: value for name, value in kept.items() if value}
    return render(
        request, "jobs.html", jobs=rows, next=page.get("next"), more=more, state=state, states=STATES,
        health=health, kind=kind, sort=sort, sorts=SORTS,
        healths=[item.value for item in HeadlineState], search=search,
    )  # fmt: skip


@router.get("/verify")
async def compare(request: Request) -> Response:
    """Choose a source and an ONNX file that any tool made of it; the newest comparisons below."""
    async with Api(request) as api:
        try:
            jobs = [job_of(row) for row in (await api.get("/v1/jobs", limit=6, kind="verify"))["jobs"]]
        except ApiError as error:
            if error.status != 401:
                raise
            jobs = []
    return render(request, "verify.html", jobs=jobs, uploads=UPLOADS)


@router.get("/jobs/{job_id}")
async def job(request: Request, job_id: str, norms: str = "") -> Response:
    """One job: followed live while it runs, its result afterwards."""
    path = f"/v1/jobs/{quote(job_id, safe='')}"
    async with Api(request) as api:
        found = job_of(await api.get(path))
        if found["kind"] == "inspect" and found["model"]:
            return RedirectResponse(f"/models/{quote(found['model'], safe='')}", 303)
        if found["state"] in ("queued", "running", "stopping"):
            stages = STAGES if found["kind"] == "fold" else STAGES[-1:]
            return render(request, "live.html", job=found, stages=stages)
        body = None
        if found["state"] in ("succeeded", "rejected"):
            body = await api.document(f"{path}/report", part="summary")
        page = await norm_page(api, path, body, norms)
    return await run_in_threadpool(_finished, request, found, body, page, everything=norms == "all")


def _finished(
    request: Request, job: dict[str, Any], body: bytes | None, page: NormPage | None, *, everything: bool
) -> Response:
    """Off the event loop: a long report takes a while to read and to render."""
    if body is not None:
        try:
            report = Report.model_validate(without_totals(json.loads(body), page))
            return _result(request, job, report, page, everything=everything)
        except ValidationError:
            pass
    return _ended(request, job, body is not None)


def _result(
    request: Request, job: dict[str, Any], report: Report, page: NormPage | None, *, everything: bool
) -> Response:
    compared = job["kind"] == "verify"  # both files were given: nothing was made that could be published
    artifact = job["artifact_digest"] or (report.artifact.digest if report.artifact else None)
    published = job["state"] == "succeeded" and not compared
    return render(
        request,
        "result.html",
        job=job,
        report=report,
        view=views.result(report, everything=everything, page=page),
        titles=TITLES,
        artifact=artifact,
        bundle_kinds=[(bundle.KIND, bundle.TITLE) for bundle in BUNDLES],
        artifact_url=f"/v1/artifacts/{quote(artifact or '', safe=':')}",
        published=published,
        compared=compared,
        download_name=download_name(job["filename"]),
        recalibrated_name=download_name(job["filename"], "recalibrated"),
        source_url=f"/v1/blobs/{quote(job['input'], safe=':')}",
        netron=netron.folder() is not None,
        netron_bytes=netron.bytes_at,
        latency=latency.rows(report.latency),
        latency_chart=job_charts.latency_chart(report),
        size_chart=sizes.chart(report),
        calibration=calibration.view(report.calibration),
        uploads=UPLOADS,
        again={
            "input": job["input"],
            "filename": job["filename"],
            "options": job["options"],
            **({"probe": job["probe"]} if job["probe"] else {}),
        },
        snippets=snippets.for_job(
            snippets.Work(
                base=public_base(request),
                filename=job["filename"],
                source=job["input"],
                options=job["options"],
                calibration=job["calibration"],
                probe=job["probe"],
                candidate=job.get("candidate"),
                keyed="authorization" in request.headers,
            ),
            job["id"],
            artifact if published else None,
        ),
    )


@router.get("/jobs/{job_id}/layer")
async def layer(request: Request, job_id: str, name: str) -> Response:
    """One batch norm: its statistics as histograms with axes, its findings, what became of it."""
    job, found = await layers.load(request, job_id, name)
    return render(
        request, "layer.html", job=job, layer=found, view=views.norm_view(found.norm, 0), charts=found.charts,
    )  # fmt: skip


@router.get("/jobs/{job_id}/layer/charts/{chart}.svg")
async def layer_chart(request: Request, job_id: str, chart: str, name: str) -> Response:
    """One of its histograms as a file."""
    _, found = await layers.load(request, job_id, name)
    drawn = next((each for each in found.charts if each.name == chart), None)
    if drawn is None:
        raise ApiError(404, {"title": "No such chart", "detail": "The layer has no numbers for it."})
    headers = {"Cache-Control": "private, no-cache", "Content-Security-Policy": CSP}
    return Response(drawn.file, media_type="image/svg+xml", headers=headers)


def _ended(request: Request, job: dict[str, Any], unreadable: bool) -> Response:
    problem = problem_of(job["error"])
    note = (
        "Its report was written by another version of bnfold; the JSON is still there." if unreadable else ""
    )
    return render(
        request,
        "ended.html",
        job=job,
        problem=problem,
        note=note,
        explanation=views.explained(problem["code"]) if problem else None,
        again=not problem or problem["again"],
    )


@router.get("/models/{model_id}")
async def model(request: Request, model_id: str, norms: str = "") -> Response:
    """What is in a model, before any job; and the form that sends one."""
    async with Api(request) as api:
        found = await api.get(f"/v1/models/{quote(model_id, safe='')}", part="summary")
        page = await model_norms(api, found, norms)
        reading = found.get("inspection_job") or {}
        if reading.get("state") == "queued":  # alone, a waiting job says its place
            reading = await api.find(f"/v1/jobs/{quote(reading['id'], safe='')}") or reading
        providers = await _providers(api)
    inspection = inspection_of(found.get("inspection"))
    problem = problem_of(reading.get("error"))
    pending = reading.get("state") in ("queued", "running", "stopping")
    shown = inspection.batch_norms if inspection is not None else []
    listed = shown if norms == "all" or page is not None else views.notable(shown)
    if page is not None and page.rows is not None:
        listed = page.rows
    return render(
        request,
        "model.html",
        model=found,
        inspection=inspection,
        problem=problem,
        explained=views.explained,
        pending=f"/v1/jobs/{quote(reading['id'], safe='')}" if pending else "",
        reading=reading,
        refused=views.refused(shown),
        flagged=page.flagged if page is not None else views.flagged(shown),
        total=page.total if page is not None else len(shown),
        norms=[views.norm_view(norm, index) for index, norm in enumerate(listed)],
        hidden=page.total - page.shown_until(listed) if page is not None else len(shown) - len(listed),
        more=page.more if page is not None else "all",
        titles=TITLES,
        groups=options_form(inspection, providers),
        uploads=UPLOADS,
    )


async def _providers(api: Api) -> list[str]:
    """Pools of the service; CPU and CUDA are always offered, since `unavailable` is an answer."""
    known = await api.find("/v1/capabilities") or {}
    return list(dict.fromkeys(["cpu", "cuda", *(str(name) for name in known.get("pools", []))]))


@router.get("/releases")
async def releases(request: Request) -> Response:
    """Names and channels, what they point to, and what they pointed to before."""
    async with Api(request) as api:
        rows = (await api.get("/v1/releases"))["releases"]
        for row in rows[:HISTORIES]:
            place = f"{quote(row['name'], safe='')}/{quote(row['channel'], safe='')}"
            past = await api.find(f"/v1/releases/{place}/history") or {}
            row["history"] = past.get("history", [])
    return render(request, "releases.html", releases=rows)


@router.get("/problems/{code}")
async def problem_page(request: Request, code: str) -> Response:
    """What an error's `type` points to: the code, explained."""
    entries = catalogue.lookup(code)
    if not entries:
        raise ApiError(404, {"title": "Unknown code", "detail": "The service has no code of this name."})
    return render(request, "explain.html", code=code, entries=entries)
