"""Every answer that another attempt may turn into success says when to try: 429, 503, 504, 507."""

from __future__ import annotations

import asyncio
import errno
import inspect
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from folding import errors as library
from service import errors as service_errors
from service.api import problems
from service.api.protocol import GuardedProtocol
from service.api.routes.system import Ready, readyz
from service.errors import ServiceError, StorageFull, TooMany, Unavailable

AGAIN = {429, 503, 504, 507}


def all_errors() -> Iterator[type[library.BnfoldError]]:
    """Every class of error that there is, the library's and the service's."""
    rest, seen = [library.BnfoldError], set()
    while rest:
        kind = rest.pop()
        if kind not in seen:
            seen.add(kind)
            rest += kind.__subclasses__()
            if kind.__module__.startswith(("folding.", "service.")):
                yield kind


def status_of(kind: type[library.BnfoldError]) -> int:
    if issubclass(kind, ServiceError):
        return kind.status
    return next(number for base, number in problems.STATUS if issubclass(kind, base))


KINDS = sorted(all_errors(), key=lambda kind: kind.__qualname__)


def test_the_table_has_what_it_should() -> None:
    names = {kind.__name__ for kind in KINDS}
    assert {"TooMany", "Unavailable", "StorageFull", "TimedOut", "TemporaryFailure"} <= names
    assert set(problems.RETRY_AFTER) == AGAIN
    found = {status_of(kind) for kind in KINDS}
    assert found >= AGAIN, "each status is somebody's"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__qualname__)
def test_errors(kind: type[library.BnfoldError]) -> None:
    required = [
        parameter.name
        for parameter in inspect.signature(kind.__init__).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    if set(required) - {"self", "message"}:
        pytest.skip(f"{kind.__qualname__} is never made without {required}")
    answer = problems.of_error(kind("what happened"))
    says = answer.headers.get("retry-after")
    assert (says is not None) == (answer.status_code in AGAIN)
    assert says is None or int(says) >= 1


@pytest.mark.parametrize(
    ("error", "status", "seconds"),
    [
        (TooMany("m", retry_after=17.4), 429, "17"),
        (TooMany("m", retry_after=0.01), 429, "1"),
        (Unavailable("m", retry_after=5), 503, "5"),
        (StorageFull("m"), 507, "30"),
        (library.TimedOut("m"), 504, "1"),
        (library.TemporaryFailure("m"), 503, "2"),
        (OSError(errno.EMFILE, "too many files"), 503, "5"),
        (OSError(errno.ENOSPC, "disk full"), 507, "30"),
        (MemoryError(), 503, "5"),
        (HTTPException(503), 503, "2"),
        (HTTPException(429, headers={"Retry-After": "9"}), 429, "9"),
        (HTTPException(404), 404, None),
        (library.UsageError("m"), 422, None),
        (RuntimeError("defect"), 500, None),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(type(value), "__name__", ""),
)
def test_what_a_route_raises(error: Exception, status: int, seconds: str | None) -> None:
    app = FastAPI()
    problems.install(app)

    @app.get("/")
    def route() -> None:
        raise error

    answer = TestClient(app, raise_server_exceptions=False).get("/")
    assert answer.status_code == status
    assert answer.headers.get("retry-after") == seconds


@pytest.mark.parametrize("ready", [True, False])
def test_readiness(ready: bool) -> None:
    found = Ready(ready=ready, sandbox="strong", workers=1, pools={}, checks={})
    state = SimpleNamespace(ready=(time.monotonic(), found), draining=False)
    request: Any = SimpleNamespace(app=SimpleNamespace(state=state))
    ports: Any = None
    answer = asyncio.run(readyz(request, ports))
    assert (answer.status_code, answer.headers.get("retry-after")) == ((200, None) if ready else (503, "2"))


@pytest.mark.parametrize(("status", "says"), [(503, True), (408, False), (431, False), (400, False)])
def test_answers_before_there_is_a_request(status: int, says: bool) -> None:
    """The protocol writes these itself."""

    class Transport:
        data = b""

        def write(self, data: bytes) -> None:
            self.data += data

        def can_write_eof(self) -> bool:
            return False

        def close(self) -> None:
            """Nothing is open."""

    class Loop:
        def call_later(self, *_: Any) -> None:
            """Nothing comes later."""

    protocol = GuardedProtocol.__new__(GuardedProtocol)
    protocol.transport, protocol.loop = Transport(), Loop()
    protocol.send_problem(status, "code", "detail")
    head = protocol.transport.data.split(b"\r\n\r\n")[0]
    assert (b"\r\nretry-after: 2\r\n" in head) == says
    assert head.startswith(f"HTTP/1.1 {status} ".encode())


def test_every_class_with_such_a_status_is_a_temporary_failure() -> None:
    """The command's exit code 75 and the header say the same."""
    for name, kind in vars(service_errors).items():
        if isinstance(kind, type) and issubclass(kind, ServiceError) and kind.status in AGAIN:
            assert issubclass(kind, library.TemporaryFailure), name
