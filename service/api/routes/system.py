"""How the service is, what it can, and what its numbers are."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, Field
from sqlalchemy import Row

from folding import toolchain
from folding.errors import BnfoldError
from folding.options import FoldOptions
from service.api import metrics, problems
from service.api.deps import Ports, Reader
from service.api.jobs_view import FORMS
from service.process.supervision import FAULTS
from service.runner.levels import weakest
from service.store import workers
from service.wiring import Services

router = APIRouter(tags=["system"])
READY_TTL = 1.0


class Alive(BaseModel):
    """The process answers."""

    status: str = "ok"


class Check(BaseModel):
    """One part of the deployment."""

    ok: bool
    detail: str = ""


class Pool(BaseModel):
    """Who would run the jobs of a pool now."""

    workers: int
    slots: int = Field(description="Jobs that run at a time. 0: jobs are taken, and wait.")


class Ready(BaseModel):
    """Whether work can be taken, who would run it, and at which sandbox level."""

    ready: bool
    sandbox: str = Field(description="Weakest level among live workers; `unknown` while none has reported.")
    workers: int
    pools: dict[str, Pool] = Field(description="Each pool that this deployment has, also with no worker.")
    checks: dict[str, Check]


class Capabilities(BaseModel):
    """What this deployment can do."""

    version: str
    engine: str
    pools: list[str]
    unavailable_pools: dict[str, str] = Field(description="Pools that workers cannot offer, and why.")
    sandbox: str
    options: dict[str, Any] = Field(description="JSON schema of the options of a fold.")
    report_forms: list[str]
    limits: dict[str, float]
    toolchain: dict[str, str]


@router.get("/livez", response_model=Alive, summary="Liveness")
async def livez() -> Alive:
    """Touches nothing but the event loop."""
    return Alive()


@router.get(
    "/readyz",
    response_model=Ready,
    responses={503: {"model": Ready, "description": "Not ready; `checks` says why."}},
    summary="Readiness",
)
async def readyz(request: Request, ports: Ports) -> JSONResponse:
    """Database, blob store and engine are tried, at most once a second.

    503 means that this process should get no requests: it could not keep what it is given. Workers of the
    scale-out engine are other machines; without them jobs are kept and wait, which `pools`, `checks`, the
    metric `bnfold_workers` and an alert tell. A balancer that took the API away for that would turn a wait
    into an outage. The embedded engine's worker is this process's own child, and counts.
    """
    known: tuple[float, Ready] | None = getattr(request.app.state, "ready", None)
    if known is None or time.monotonic() - known[0] > READY_TTL:
        known = (time.monotonic(), await run_in_threadpool(look, ports))
        request.app.state.ready = known
    found = known[1]
    if getattr(request.app.state, "draining", False):
        ending = {"process": Check(ok=False, detail="this process is about to end")}
        found = found.model_copy(update={"ready": False, "checks": found.checks | ending})
    if found.ready:
        return JSONResponse(found.model_dump())
    return JSONResponse(found.model_dump(), 503, {"Retry-After": str(problems.RETRY_AFTER[503])})


def look(ports: Services) -> Ready:
    """Try every part."""
    checks = {"database": _try(ports.db.ping), "blobs": _try(ports.blobs.ping)}
    health: dict[str, Any] = {}
    if checks["database"].ok:
        health = ports.queue.health()
    checks["engine"] = Check(ok=bool(health.get("ok")), detail=str(health.get("detail", "")))
    live = workers.alive(ports.db, ports.settings) if checks["database"].ok else []
    embedded = ports.settings.engine == "embedded"
    checks["workers"] = Check(ok=bool(live), detail="" if live else "no worker is alive; jobs wait")
    pools = _pools(ports.settings.pools, live)
    for pool, found in pools.items():
        if live and not found.slots:
            checks[f"pool {pool}"] = Check(ok=False, detail="no worker serves this pool; its jobs wait")
    checks |= {f"pool {pool}": Check(ok=False, detail=why) for pool, why in _unavailable(live).items()}
    faults = FAULTS.current() | {
        f"{row.name} {where}": what
        for row in live
        for where, what in ((row.status or {}).get("faults") or {}).items()
    }
    checks["threads"] = Check(ok=not faults, detail="; ".join(f"{k}: {v}" for k, v in faults.items())[:2000])
    needed = [name for name in checks if name in ("database", "blobs", "engine") or (
        name == "workers" and embedded
    )]  # fmt: skip
    return Ready(
        # A pool that is not offered, or a thread that is tried again, takes nothing from the others.
        ready=all(checks[name].ok for name in needed),
        sandbox=weakest((row.sandbox for row in live), "unknown"),
        workers=len(live),
        pools=pools,
        checks=checks,
    )


def _pools(expected: list[str], live: list[Row[Any]]) -> dict[str, Pool]:
    found = {}
    for pool in sorted({*expected, *(pool for row in live for pool in row.pools)}):
        mine = [row for row in live if pool in row.pools]
        found[pool] = Pool(workers=len(mine), slots=sum(row.slots for row in mine))
    return found


def _unavailable(live: list[Row[Any]]) -> dict[str, str]:
    """Return pool -> why, of pools that no live worker offers and that one would."""
    offered = {pool for row in live for pool in row.pools}
    problems = {pool: why for row in live for pool, why in ((row.status or {}).get("pools") or {}).items()}
    return {pool: str(why) for pool, why in sorted(problems.items()) if pool not in offered}


def _try(act: Any) -> Check:
    try:
        act()
    except BnfoldError as error:
        return Check(ok=False, detail=error.message)
    return Check(ok=True)


@router.get("/v1/capabilities", response_model=Capabilities, summary="Get capabilities")
def capabilities(ports: Ports, who: Reader) -> Capabilities:
    """Options, limits, report forms, pools and versions."""
    settings = ports.settings
    live = workers.alive(ports.db, settings)
    return Capabilities(
        version=toolchain.version(),
        engine=settings.engine,
        pools=sorted({pool for row in live for pool in row.pools} if live else settings.pools),
        unavailable_pools=_unavailable(live),
        sandbox=look(ports).sandbox,
        options=FoldOptions.model_json_schema(),
        report_forms=list(FORMS),
        limits={
            "upload_bytes": settings.max_upload_bytes,
            "json_bytes": settings.max_json_bytes,
            "wait_seconds": settings.max_wait,
            "job_seconds": settings.job_timeout,
        },
        toolchain=toolchain.versions(),
    )


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"description": "Prometheus text.", "content": {"text/plain": {}}}},
    summary="Get Prometheus metrics",
)
def get_metrics(ports: Ports) -> Response:
    """Requests of this process (of all, with several), jobs by state from the database."""
    return Response(metrics.render(ports), media_type=metrics.CONTENT_TYPE)
