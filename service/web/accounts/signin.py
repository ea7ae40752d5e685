"""Signing in and out: the key goes into a cookie that scripts can't read, after the API has accepted it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from service.web.accounts.session import COOKIE, from_own_page, key_of
from service.web.api_client import Api, ApiError, public_base
from service.web.rendering.templating import render

router = APIRouter(include_in_schema=False)


@router.get("/session")
async def form(request: Request) -> Response:
    """The form."""
    return render(request, "session.html", problem="")


@router.post("/session")
async def begin(request: Request, key: Annotated[str, Form(max_length=512)]) -> Response:
    """Try the key on the API; set the cookie when it is good."""
    if not from_own_page(request.scope):
        return render(request, "session.html", status=403, problem="This form was sent from another site.")
    key = key.strip()
    if not key.isascii() or not key.isprintable() or any(c in key for c in ' ;,"\\'):
        return render(request, "session.html", status=401, problem="That is not an API key.")
    async with Api(request, key=key) as api:
        try:
            await api.get("/v1/jobs", limit=1)
        except ApiError as error:
            return render(request, "session.html", status=error.status, problem=str(error))
    answer = RedirectResponse("/", status_code=303)
    secure = public_base(request).startswith("https:")
    answer.set_cookie(COOKIE, key, httponly=True, samesite="strict", secure=secure, path="/")
    return answer


@router.post("/session/end")
async def end(request: Request) -> Response:
    """Forget the key."""
    answer = RedirectResponse("/session", status_code=303)
    if key_of(request.headers) is not None and from_own_page(request.scope):
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return answer
