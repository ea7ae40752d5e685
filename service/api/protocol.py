"""uvicorn's protocol with what it lacks: a deadline for headers, a cap on connections and on header bytes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import uvicorn

from service.api.problems import RETRY_AFTER

MAX_HEADER_BYTES = 64 << 10
MAX_HEADERS = 100


async def _no_application(scope: Any, receive: Any, send: Any) -> None:
    """Stand in for an application where only the configuration matters."""


def _protocol() -> Any:
    """Return the class that uvicorn itself takes for `http="httptools"`, by way of its configuration."""
    config = uvicorn.Config(_no_application, http="httptools", log_config=None)
    config.load()
    return config.http_protocol_class


_PROTOCOL = _protocol()


class GuardedProtocol(_PROTOCOL):  # type: ignore[misc, valid-type]
    """`header_timeout` and `max_connections` are class attributes, set by `service.app.serve`."""

    header_timeout = 10.0
    max_connections = 2048
    send_timeout = 60.0
    _stall: asyncio.TimerHandle | None = None
    _complete = True
    _deadline: asyncio.TimerHandle | None = None
    _in_headers = True
    _header_bytes = 0
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Count, and start the clock."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self.send_problem(503, "too_many_connections", "Too many connections are open.")
            return
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """The clock stops with the connection."""
        self._disarm()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not take what it asked for: it has `send_timeout` to go on."""
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(self.send_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """It does."""
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Count header bytes before the parser keeps them."""
        if self._refused:
            return
        if self._in_headers:
            self._header_bytes += len(data)
            # A first piece may carry body too; uvicorn reads at most 256 KiB at once.
            if self._header_bytes > MAX_HEADER_BYTES and b"\r\n\r\n" not in data[:MAX_HEADER_BYTES]:
                self.send_problem(431, "headers_too_large", "The request's headers are too large.")
                return
        super().data_received(data)
        # Line ends between requests stop uvicorn's keep-alive clock and begin nothing: ours takes over.
        if not self._in_headers and self._complete and self._answered() and self._deadline is None:
            self._in_headers = True
            self._arm()

    def _answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def on_message_complete(self) -> None:
        """The request is in, body and all."""
        self._complete = True
        self._disarm()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Who was answered before the body was in may finish it (it is thrown away), but not for ever."""
        super().on_response_complete()
        if not self._complete and not self.transport.is_closing() and self._deadline is None:
            self._deadline = self.loop.call_later(self.header_timeout, self._linger)

    def _linger(self) -> None:
        self._deadline = None
        if not self._complete and not self.transport.is_closing():
            self.transport.close()

    def on_message_begin(self) -> None:
        """A request begins (again, on a connection that is kept)."""
        super().on_message_begin()
        self._in_headers, self._header_bytes, self._complete = True, 0, False
        if self._deadline is None:
            self._arm()

    def on_headers_complete(self) -> None:
        """In time."""
        self._in_headers = False
        self._disarm()
        if len(self.headers) > MAX_HEADERS:
            self.send_problem(431, "headers_too_large", f"The request has more than {MAX_HEADERS} headers.")
            return
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets a problem too."""
        self.send_problem(400, "bad_request", "This is not a valid HTTP request.")

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(self.header_timeout, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self._deadline = None
        if self._in_headers and not self.transport.is_closing():
            self.send_problem(408, "request_timeout", "The request's headers did not come in time.")

    def send_problem(self, status: int, code: str, detail: str) -> None:
        body = json.dumps({"type": f"/problems/{code}", "title": code, "status": status, "detail": detail,
                           "code": code}).encode()  # fmt: skip
        phrase = {
            400: "Bad Request",
            408: "Request Timeout",
            431: "Request Header Fields Too Large",
            503: "Service Unavailable",
        }
        head = (
            f"HTTP/1.1 {status} {phrase[status]}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\n"
            + (f"retry-after: {RETRY_AFTER[status]}\r\n" if status in RETRY_AFTER else "")
            + "connection: close\r\n\r\n"
        )
        self._disarm()
        self._refused = True
        self.transport.write(head.encode() + body)
        # Closing with unread bytes would reset the connection and take the answer with it: let them come.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(1.0, self.transport.close)


def guarded(header_timeout: float, max_connections: int) -> type[Any]:
    """The protocol class with these limits."""
    limits = {"header_timeout": header_timeout, "max_connections": max_connections}
    return type("Guarded", (GuardedProtocol,), limits)
