"""Two jobs side by side: what was asked, what came out, both artifacts' graphs, each batch norm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from folding.report import GraphMap, NormReport, Report
from folding.report.graph_align import Look, align, interleave
from service.web import views
from service.web.api_client import Api, ApiError
from service.web.api_records import job_of
from service.web.graph import sugiyama
from service.web.rendering import formats
from service.web.rendering.templating import render

router = APIRouter(include_in_schema=False)
DRAWN = 6000  # nodes of both graphs together; above that the layout takes too long for an answer


@dataclass(frozen=True)
class Fact:
    """One line of the comparison."""

    what: str
    left: str
    right: str

    @property
    def differs(self) -> bool:
        """Return whether the two say different things."""
        return self.left != self.right


@dataclass(frozen=True)
class NormPair:
    """One batch norm in both jobs; None where a job has no such."""

    name: str
    left: NormReport | None
    right: NormReport | None
    changes: list[str]


@router.get("/compare")
async def compare(request: Request) -> Response:
    """`?job=ID&job=ID`: the comparison. The form of the jobs page asks so."""
    left, right = _two(request)
    async with Api(request) as api:
        found = [await _loaded(api, job) for job in (left, right)]
    return await run_in_threadpool(_page, request, *found)


@router.get("/compare/graph.json")
async def graph(request: Request) -> Response:
    """Both artifacts' graphs, aligned, in the form that the drawing of one job has."""
    left, right = _two(request)
    async with Api(request) as api:
        bodies = [await _report(api, job, part="all") for job in (left, right)]
    body = await run_in_threadpool(_drawing, *bodies)
    headers = {"Cache-Control": "private, no-cache"}
    return Response(body, media_type="application/json", headers=headers)


def _two(request: Request) -> list[str]:
    chosen = list(dict.fromkeys(request.query_params.getlist("job")))
    if len(chosen) != 2:
        raise ApiError(
            422,
            {
                "title": "Choose two jobs",
                "detail": f"A comparison takes two different jobs; {len(chosen)} were chosen.",
                "hint": "Tick two jobs in the list, then press “Compare”.",
            },
        )
    return chosen


async def _loaded(api: Api, job: str) -> tuple[dict[str, Any], Report]:
    row = job_of(await api.get(f"/v1/jobs/{quote(job, safe='')}"))
    report = json.loads(await _report(api, job, part="summary"))
    report.pop("batch_norm_totals", None)
    return row, Report.model_validate(report)


async def _report(api: Api, job: str, part: str) -> bytes:
    path = f"/v1/jobs/{quote(job, safe='')}/report"
    return (await api.raw(path, accept="application/json", part=part)).content


def _page(
    request: Request, left: tuple[dict[str, Any], Report], right: tuple[dict[str, Any], Report]
) -> Response:
    pairs = norm_pairs(left[1].batch_norms, right[1].batch_norms)
    return render(
        request,
        "compare.html",
        jobs=(left[0], right[0]),
        banners=[views.banner(report) for _, report in (left, right)],
        facts=list(facts(left, right)),
        pairs=pairs,
        changed=sum(bool(pair.changes) for pair in pairs),
    )


def facts(left: tuple[dict[str, Any], Report], right: tuple[dict[str, Any], Report]) -> Iterator[Fact]:
    """Yield what can be laid beside each other: the source, the options, the figures."""
    for what in ("input", "calibration", "probe"):
        titles = {"input": "Source", "calibration": "Calibration data", "probe": "Test inputs"}
        yield Fact(titles[what], *(formats.short_digest(job[what]) for job, _ in (left, right)))
    options = [job["options"] or {} for job, _ in (left, right)]
    for name in dict.fromkeys(name for chosen in options for name in chosen):
        said = (
            json.dumps(chosen[name], ensure_ascii=False) if name in chosen else "default"
            for chosen in options
        )
        yield Fact(f"Option {formats.words(name)}", *said)
    told = [_figures(report) for _, report in (left, right)]
    for name in dict.fromkeys(name for figures in told for name in figures):
        yield Fact(name, *(figures.get(name, formats.DASH) for figures in told))
    for name in ("onnxruntime", "bnfold"):
        yield Fact(f"Version of {name}", *(r.toolchain.get(name, formats.DASH) for _, r in (left, right)))


def _figures(report: Report) -> dict[str, str]:
    folded = sum(norm.decision == "folded" for norm in report.batch_norms)
    return {figure.label: figure.value for figure in views.figures(report, folded)}


def norm_pairs(left: list[NormReport], right: list[NormReport]) -> list[NormPair]:
    """Return the batch norms of both by name, in the order of the left and then of the right."""
    first, second = ({norm.name: norm for norm in norms} for norms in (left, right))
    return [
        NormPair(name, first.get(name), second.get(name), list(_changes(first.get(name), second.get(name))))
        for name in dict.fromkeys([*first, *second])
    ]


def _changes(left: NormReport | None, right: NormReport | None) -> Iterator[str]:
    """Yield what is different, in words."""
    if left is None or right is None:
        yield "only in the second" if left is None else "only in the first"
        return
    if left.decision != right.decision or left.reason != right.reason:
        yield "decision"
    if set(left.into) != set(right.into):
        yield "where to"
    if {item.code for item in left.health} != {item.code for item in right.health}:
        yield "health"
    for role, title in views.ROLES:
        if left.stats.get(role) != right.stats.get(role):
            yield title
    if left.epsilon != right.epsilon:
        yield "epsilon"


def _drawing(left: bytes, right: bytes) -> str:
    graphs = [json.loads(body).get("graph_map") for body in (left, right)]
    if not all(graphs):
        return json.dumps({"graph_map": None, "layout": None, "batch_norms": []})
    merged = beside(*(GraphMap.model_validate(graph) for graph in graphs))
    if len(merged.before.names) + len(merged.after.names) > DRAWN:
        return json.dumps({"graph_map": None, "layout": None, "batch_norms": []})
    layout = sugiyama.layout(merged).to_json()
    body = {"graph_map": merged.model_dump(mode="json"), "layout": layout, "batch_norms": []}
    return json.dumps(body, separators=(",", ":"))


def beside(left: GraphMap, right: GraphMap) -> GraphMap:
    """Return both artifacts as one map: the left one's graph as `before`, the right one's as `after`."""
    types = list(dict.fromkeys([*left.op_types, *right.op_types]))
    number = {name: index for index, name in enumerate(types)}
    sides, looks = [], []
    for graphs in (left, right):
        side = graphs.after
        ops = [graphs.op_types[op] for op in side.ops]
        sides.append(side.model_copy(update={"ops": [number[op] for op in ops]}))
        looks.append(Look(side.names, ops, side.names, side.shapes, side.inputs))
    rows = interleave(align(*looks), len(sides[0].names), len(sides[1].names))
    return GraphMap(op_types=types, before=sides[0], after=sides[1], rows=rows, sites=[])
