"""The pages: `mount(app)` adds them, and the security headers that every answer carries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exception_handlers import http_exception_handler
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from service.web import apidocs, compare, pages, reports
from service.web.accounts import account, signin
from service.web.accounts.session import SessionCookie
from service.web.api_client import ApiError
from service.web.graph import netron
from service.web.headers import SecurityHeaders
from service.web.rendering import docs_site, static_files
from service.web.rendering.templating import render

router = APIRouter(include_in_schema=False)
for part in (static_files, netron, signin, account, apidocs, docs_site, reports, compare, pages):
    router.include_router(part.router)

_TITLES = {401: "Sign in first", 403: "Not allowed", 404: "Not found", 429: "Too many requests",
           503: "The service is busy"}  # fmt: skip


def mount(app: FastAPI) -> None:
    """Add pages, their error page, and both middlewares. Call it after the API's own middleware was added:
    the last one added is the outermost, so that errors of the others get the headers too."""
    app.include_router(router)
    app.add_exception_handler(ApiError, _error_page)
    app.add_exception_handler(HTTPException, _pages_for_people(app.exception_handlers.get(HTTPException)))
    app.add_middleware(SessionCookie)
    app.add_middleware(SecurityHeaders)


Handler = Callable[[Request, Exception], Response | Awaitable[Response]]


def _pages_for_people(problem: Any) -> Handler:
    """A browser that asks for a page which is not there gets a page; programs get the problem as before."""

    async def handle(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if not request.url.path.startswith("/v1/") and "text/html" in request.headers.get("accept", ""):
            return await _error_page(request, ApiError(error.status_code, {"title": error.detail}))
        answer = (problem or http_exception_handler)(request, error)
        return await answer if isawaitable(answer) else answer

    return handle


async def _error_page(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    problem = error.problem
    answer = render(
        request,
        "error.html",
        status=error.status,
        title=_TITLES.get(error.status) or str(problem.get("title") or "Something went wrong"),
        detail=str(problem.get("detail") or problem.get("title") or ""),
        hint=problem.get("hint"),
        code=problem.get("code"),
        wait=error.retry_after,
    )
    if error.retry_after is not None:
        answer.headers["Retry-After"] = str(error.retry_after)
    return answer


__all__ = ["mount", "router"]
