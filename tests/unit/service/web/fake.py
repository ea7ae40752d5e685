"""An application with the pages and just enough of the API behind them, answering from dictionaries."""

# Rows of data: long lines read better than wrapped ones.
# ruff: noqa: E501

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from folding.report import Report
from service import web
from tests.unit.service.web import sample

JOB: dict[str, Any] = {
    "id": "job_1", "kind": "fold", "state": "succeeded", "pool": "cpu", "model": "model_1", "filename": "resnet50.h5",
    "input": sample.SOURCE, "calibration": None, "probe": None, "options": {"opset": 18}, "attempt": 1, "stage": "verify",
    "progress": 1.0, "message": None, "verdict": "pass", "sandbox": "strong", "cached_from": None, "error": None,
    "artifact": {"digest": sample.DIGEST, "bytes": 102_400_000}, "created_at": "2026-01-31T12:00:00.000Z",
    "updated_at": "2026-01-31T12:00:05.000Z", "started_at": "2026-01-31T12:00:01.000Z",
    "finished_at": "2026-01-31T12:00:05.000Z", "links": {},
}  # fmt: skip


KEY: dict[str, Any] = {
    "id": "bnf_mine", "name": "laptop", "scopes": ["read", "submit"], "created_at": JOB["created_at"],
    "expires_at": "2027-01-31T12:00:00.000Z", "expired": False, "revoked_at": None,
}  # fmt: skip


def app(
    *, jobs: list[dict[str, Any]] | None = None, report: Report | None = None, key: str | None = None
) -> FastAPI:
    """The application; with `key` it wants that one as bearer token."""
    api = FastAPI(title="bnfold", version="0.1.0", docs_url=None, redoc_url=None)
    rows = {job["id"]: job for job in ([JOB] if jobs is None else jobs)}
    found = report or sample.report()
    models = {"model_1": {"id": "model_1", "digest": sample.SOURCE, "filename": "resnet50.h5",
                          "created_at": JOB["created_at"], "inspection_job": None,
                          "inspection": sample.inspection().model_dump(mode="json", by_alias=True)}}  # fmt: skip
    api.state.models = models

    def problem(status: int, detail: str) -> JSONResponse:
        return JSONResponse(
            {"title": "Problem", "status": status, "detail": detail, "hint": "Try another."}, status
        )

    @api.middleware("http")
    async def gate(request: Request, call_next: Any) -> Response:
        if (
            key
            and request.url.path.startswith("/v1")
            and request.headers.get("authorization") != f"Bearer {key}"
        ):
            return problem(401, "This service needs an API key.")
        answer: Response = await call_next(request)
        return answer

    @api.get("/v1/jobs")
    def jobs_(
        limit: int = 50,
        state: str = "",
        page_token: str = "",
        health: str = "",
        search: str = "",
        sort: str = "",
    ) -> Any:
        listed = [
            job
            for job in rows.values()
            if (not state or job["state"] == state)
            and (not health or (job.get("headline") or {}).get("state") == health)
            and search.lower() in str(job.get("name") or job["filename"]).lower()
        ]
        return {"jobs": listed[:limit], "next": None if page_token else "a token&more"}

    @api.get("/v1/jobs/{job_id}")
    def job(job_id: str) -> Any:
        if job_id == "job_busy":
            return busy("job")
        return rows[job_id] if job_id in rows else problem(404, "No such job.")

    @api.get("/v1/jobs/{job_id}/report")
    def report_(job_id: str, request: Request) -> Any:
        if "html" in request.headers["accept"]:
            return HTMLResponse("<style>p{color:red}</style><p>report")
        return Response(found.to_json(), media_type="application/json")

    @api.get("/v1/models/{model_id}")
    def model(model_id: str) -> Any:
        return models[model_id] if model_id in models else problem(404, "No such model.")

    @api.get("/v1/releases")
    def releases() -> Any:
        row = {
            "name": "resnet50",
            "channel": "stable",
            "version": 2,
            "digest": sample.DIGEST,
            "updated_at": JOB["created_at"],
            "job": "job_1",
            "headline": {"state": "unhealthy", "title": "Equivalent, but", "code": "never_updated"},
        }
        return {"releases": [row]}

    @api.get("/v1/releases/{name}/{channel}/history")
    def history(name: str, channel: str) -> Any:
        return {
            "history": [
                {
                    "version": 2,
                    "digest": sample.DIGEST,
                    "note": sample.HOSTILE,
                    "actor": "ci",
                    "at": JOB["created_at"],
                }
            ]
        }

    @api.get("/v1/account")
    def account() -> Any:
        usage = {"running": {"used": 1, "limit": 4}, "queued": {"used": 0, "limit": None},
                 "stored_bytes": {"used": 5_000_000, "limit": 10_000_000}, "upload_bytes": {"used": 0, "limit": None}}  # fmt: skip
        return {"tenant": "acme", "scopes": ["read", "submit"], "key": KEY, "usage": usage}

    @api.get("/v1/keys")
    def keys() -> Any:
        return {
            "keys": [KEY, KEY | {"id": "bnf_old", "name": sample.HOSTILE, "revoked_at": JOB["created_at"]}]
        }

    @api.get("/v1/webhooks")
    def webhooks() -> Any:
        hook = {"id": "wh_1", "url": "https://ci.example/" + sample.HOSTILE, "events": ["job.failed"],
                "active": True, "created_at": JOB["created_at"]}  # fmt: skip
        return {"webhooks": [hook]}

    @api.get("/v1/webhooks/{hook}/deliveries")
    def deliveries(hook: str) -> Any:
        log = [{"at": JOB["created_at"], "status": 503, "error": sample.HOSTILE}]
        row = {"id": "dl_1", "event": "job.failed", "state": "failed", "attempts": 3, "log": log,
               "created_at": JOB["created_at"]}  # fmt: skip
        return {"deliveries": [row]}

    @api.get("/v1/busy/{kind}")
    def busy(kind: str) -> Any:
        return JSONResponse(
            {"detail": "Too many requests.", "code": "rate_limited"}, 429, {"Retry-After": "7"}
        )

    @api.get("/v1/capabilities")
    def capabilities() -> Any:
        return {"pools": ["cpu"]}

    web.mount(api)
    return api
