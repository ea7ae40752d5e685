"""The pages: `mount(app)` adds them, and the security headers that every answer carries."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import Response

from service.web import apidocs, netron, pages, signin, static
from service.web.backend import ApiError
from service.web.headers import SecurityHeaders
from service.web.session import SessionCookie
from service.web.templating import render

router = APIRouter(include_in_schema=False)
for part in (static, netron, signin, apidocs, pages):
    router.include_router(part.router)

_TITLES = {401: "Sign in first", 403: "Not allowed", 404: "Not found", 429: "Too many requests"}


def mount(app: FastAPI) -> None:
    """Add pages, their error page, and both middlewares. Call it after the API's own middleware was added:
    the last one added is the outermost, so that errors of the others get the headers too."""
    app.include_router(router)
    app.add_exception_handler(ApiError, _error_page)
    app.add_middleware(SessionCookie)
    app.add_middleware(SecurityHeaders)


async def _error_page(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    problem = error.problem
    return render(
        request,
        "error.html",
        status=error.status,
        title=_TITLES.get(error.status) or str(problem.get("title") or "Something went wrong"),
        detail=str(problem.get("detail") or problem.get("title") or ""),
        hint=problem.get("hint"),
    )


__all__ = ["mount", "router"]
