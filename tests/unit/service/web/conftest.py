"""Pages without a browser: the application is called directly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from tests.unit.service.web import fake


class Client:
    """Synchronous calls into an ASGI application."""

    def __init__(self, app: Any) -> None:
        import asyncio

        self.app = app
        self._loop = asyncio.new_event_loop()
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://localhost")

    def get(self, path: str, **rest: Any) -> httpx.Response:
        """One GET."""
        return self._loop.run_until_complete(self._client.get(path, **rest))

    def post(self, path: str, **rest: Any) -> httpx.Response:
        """One POST."""
        return self._loop.run_until_complete(self._client.post(path, **rest))

    def close(self) -> None:
        """End."""
        self._loop.run_until_complete(self._client.aclose())
        self._loop.close()


@pytest.fixture
def open_client() -> Iterator[Callable[..., Client]]:
    """`open_client(**options of fake.app)`."""
    made: list[Client] = []

    def make(**options: Any) -> Client:
        made.append(Client(fake.app(**options)))
        return made[-1]

    yield make
    for client in made:
        client.close()


class Tags(HTMLParser):
    """Tags with attributes, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data
