"""What the pages know comes from the documented API, asked in the same process.

`Api` calls the application that serves the page, with the credentials of the page's own request: the
routes, the tenant and the errors are those that everybody else gets, and nothing is decided twice.
"""

from __future__ import annotations

from typing import Any, Self

import httpx
from starlette.requests import Request

_ABSENT = (404, 409, 410)
_PASSED_ON = ("authorization", "host", "x-request-id", "traceparent")


class ApiError(Exception):
    """The API refused; `problem` is its problem+json."""

    def __init__(self, status: int, problem: dict[str, Any], retry_after: str | None = None) -> None:
        super().__init__(problem.get("detail") or problem.get("title") or f"HTTP {status}")
        self.status = status
        self.problem = problem
        # Seconds; the service itself never sends the form with a date.
        self.retry_after = int(retry_after) if retry_after and retry_after.isdecimal() else None


def public_base(request: Request) -> str:
    """The address that visitors use: the operator's `public_url`, or what this request came to."""
    settings = getattr(getattr(request.app.state, "services", None), "settings", None)
    return str(getattr(settings, "public_url", "") or request.base_url).rstrip("/")


class Api:
    """One page request's view of the API. Use as an async context manager."""

    def __init__(self, request: Request, *, key: str | None = None) -> None:
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        client = (request.client.host, request.client.port) if request.client else ("127.0.0.1", 0)
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=request.app, client=client, raise_app_exceptions=False),
            base_url=f"{request.url.scheme}://{request.url.netloc}",
            headers=headers,
            timeout=60,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.aclose()

    async def get(self, path: str, **params: str | int) -> dict[str, Any]:
        """A JSON document. Raises: ApiError for every status of 400 and above."""
        answer = await self._client.get(path, params=params, headers={"accept": "application/json"})
        body = _json(answer)
        if answer.status_code >= 400:
            raise ApiError(answer.status_code, body, answer.headers.get("retry-after"))
        return body

    async def raw(self, path: str, *, accept: str, **params: str | int) -> httpx.Response:
        """An answer of any kind. Raises: ApiError for every status of 400 and above."""
        answer = await self._client.get(path, params=params, headers={"accept": accept})
        if answer.status_code >= 400:
            raise ApiError(answer.status_code, _json(answer), answer.headers.get("retry-after"))
        return answer

    async def document(self, path: str, **params: str | int) -> bytes | None:
        """A JSON document as it is, None where there is none."""
        try:
            return (await self.raw(path, accept="application/json", **params)).content
        except ApiError as error:
            if error.status in _ABSENT:
                return None
            raise

    async def find(self, path: str, **params: str | int) -> dict[str, Any] | None:
        """The same, None where there is nothing (404, 409 or 410: not there, not yet, no more)."""
        try:
            return await self.get(path, **params)
        except ApiError as error:
            if error.status in _ABSENT:
                return None
            raise


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        body = {"title": answer.reason_phrase, "detail": answer.text[:500]}
    return body if isinstance(body, dict) else {"items": body}
