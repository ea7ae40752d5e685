"""Pass an answer of the API on while it is made: a report of many megabytes is never held in memory."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from service.web.api_client import ApiError

# What the middleware around the page adds by itself.
_OWN = frozenset({b"x-request-id"})


class Forwarded(Response):
    """The answer to GET `path` of the API, for the page's own visitor. Raises ApiError for 400 and above."""

    def __init__(self, request: Request, path: str, *, accept: str, headers: dict[str, str]) -> None:
        self._request, self._path, self._accept = request, path, accept
        self._more = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask the application, and change nothing but the headers that were given."""
        dropped = (b"accept", b"range", b"if-none-match", b"if-match", b"cookie")
        kept = [pair for pair in scope["headers"] if pair[0] not in dropped]
        inner: dict[str, Any] = {
            name: scope[name]
            for name in ("type", "asgi", "http_version", "scheme", "client", "server", "root_path")
            if name in scope
        }
        inner |= {
            "method": "GET",
            "path": self._path,
            "raw_path": self._path.encode(),
            "query_string": b"",
            "headers": [*kept, (b"accept", self._accept.encode())],
        }
        refused: list[bytes] = []
        status = 200

        async def give(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if status < 400:
                    given = {name for name, _ in self._more} | _OWN
                    old = [pair for pair in message["headers"] if pair[0].lower() not in given]
                    await send({**message, "headers": [*old, *self._more]})
            elif status < 400:
                await send(message)
            else:
                refused.append(message.get("body", b""))

        await self._request.app(inner, receive, give)
        if status >= 400:
            raise ApiError(status, _problem(b"".join(refused)))


def _problem(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
